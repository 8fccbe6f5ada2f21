"""Bodies made smaller: deflated with one frozen dictionary per store, where that pays.

Every body is deflated by itself, so that pruning and forks break no chain. The dictionary is made
once, of the first bodies of the store, and kept in it: short texts then share the words and JSON
keys that they have in common.

Source: RFC 1950 (the preset dictionary of zlib).
"""

import sqlite3
import zlib
from typing import Any

LEAST = 160
"""Characters from which a body is tried without a dictionary: below, nothing is saved."""
LEAST_WITH_DICTIONARY = 48
LEARNED = 8 * 1024
"""Bytes of a dictionary: the words and keys that bodies share; a longer one saved no more."""
LONG = 1 << 20
"""Bytes from which a body is packed fast, by itself: whoever packs it holds the event loop."""
_LEVEL = 6
_FAST = 1
_WINDOW = -14
_MEMORY = 7
"""Of 128 KiB, half of zlib's own: a compressor that is copied for each body has to be small."""
_NONE = 0
_NUMBERS = 256
"""A dictionary's number is one byte of each body; a store that used them all up makes no other."""
_DAMAGE = (zlib.error, ValueError, IndexError)


class Deflater:
    """Packs and unpacks the bodies of one store.

    Args:
        compress: whether anything is packed; what was packed before can be read either way.
    """

    def __init__(self, *, compress: bool) -> None:
        self._compress = compress
        self._decompressors: dict[int, Any] = {}
        self._compressor: Any = None
        self._number = _NONE
        self._learning: list[bytes] = []
        self._learned = 0

    def pack(self, body: str) -> str | bytes:
        """Return what is stored for `body`: itself, or fewer bytes."""
        if not self._compress or len(body) < LEAST_WITH_DICTIONARY:
            return body
        raw = body.encode()
        if self._number == _NONE and self._learned < LEARNED:
            self._learning.append(raw)
            self._learned += len(raw)
        if self._compressor is None and len(body) < LEAST:
            return body
        if len(raw) >= LONG:
            packed = zlib.compress(raw, _FAST, wbits=-15)
            return bytes([_NONE]) + packed if len(packed) + 1 < len(raw) else body
        if self._compressor is None:
            packed = zlib.compress(raw, _LEVEL, wbits=-15)
        else:
            # Copying a primed compressor is several times as fast as priming one.
            compressor = self._compressor.copy()
            packed = compressor.compress(raw) + compressor.flush()
        return bytes([self._number]) + packed if len(packed) + 1 < len(raw) else body

    def unpack(self, db: sqlite3.Connection, stored: str | bytes) -> str:
        """Return the body that was stored.

        Raises:
            sqlite3.DatabaseError: the bytes are damaged.
        """
        if isinstance(stored, str):
            return stored
        if not isinstance(stored, bytes):
            raise sqlite3.DatabaseError("a body is corrupt: it is neither text nor bytes")
        try:
            return self._decompress(db, stored[0], stored[1:]).decode()
        except _DAMAGE as error:
            raise sqlite3.DatabaseError(f"a packed body is corrupt: {error}") from error

    def _decompress(self, db: sqlite3.Connection, number: int, packed: bytes) -> bytes:
        if number == _NONE:
            return zlib.decompress(packed, wbits=-15)
        if number not in self._decompressors:
            query = "SELECT body FROM dictionaries WHERE id = ?"
            row = db.execute(query, (number,)).fetchone()
            if row is None:
                raise ValueError(f"there is no dictionary {number}")
            self._decompressors[number] = zlib.decompressobj(wbits=-15, zdict=bytes(row[0]))
        decompressor = self._decompressors[number].copy()
        return decompressor.decompress(packed) + decompressor.flush()

    def begin(self, db: sqlite3.Connection) -> None:
        """Within a transaction, before anything is packed: use the dictionary that the store has.

        Another process may have made one, or removed it with what it held.
        """
        if not self._compress:
            return
        query = "SELECT max(id) FROM dictionaries WHERE id < ?"
        (number,) = db.execute(query, (_NUMBERS,)).fetchone()
        if (number or _NONE) == self._number:
            return
        self.forget()
        if number is not None:
            query = "SELECT body FROM dictionaries WHERE id = ?"
            self._use(number, bytes(db.execute(query, (number,)).fetchone()[0]))

    def end(self, db: sqlite3.Connection) -> None:
        """Within the same transaction: make the store's dictionary, once enough was seen."""
        if self._learning and self._learned >= LEARNED:
            self._make(db, b"".join(self._learning)[-LEARNED:])
            self._learning.clear()

    def _make(self, db: sqlite3.Connection, body: bytes) -> None:
        number = db.execute("INSERT INTO dictionaries (body) VALUES (?)", (body,)).lastrowid
        assert number is not None
        if number < _NUMBERS:
            self._use(number, body)
        else:
            db.execute("DELETE FROM dictionaries WHERE id = ?", (number,))

    def _use(self, number: int, body: bytes) -> None:
        self._number = number
        self._compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=body)

    def renew(self, db: sqlite3.Connection) -> None:
        """Pack every body anew, without the texts that a dictionary kept of removed runs.

        If it fails the connection is in mid-transaction, and has to be closed.
        """
        db.execute("BEGIN IMMEDIATE")
        for table, name in (("segments", "id"), ("snapshots", "number")):
            rows = db.execute(f"SELECT {name}, body FROM {table}").fetchall()  # noqa: S608
            self._plain(db, table, name, rows)
        db.execute("DELETE FROM dictionaries")
        db.execute("COMMIT")
        self.forget()

    def _plain(
        self, db: sqlite3.Connection, table: str, name: str, rows: list[tuple[int, Any]]
    ) -> None:
        for number, body in rows:
            if isinstance(body, bytes) and not body.startswith(bytes([_NONE])):
                try:
                    raw = self._decompress(db, body[0], body[1:])
                except _DAMAGE:
                    continue  # whoever reads it is told; no reason to keep what was to be erased
                packed = bytes([_NONE]) + zlib.compress(raw, _LEVEL, wbits=-15)
                db.execute(
                    f"UPDATE {table} SET body = ? WHERE {name} = ?",  # noqa: S608  constants
                    (packed, number),
                )

    def forget(self) -> None:
        """Know nothing of the store's dictionary any more, until the next `begin`."""
        self._decompressors.clear()
        self._compressor = None
        self._number = _NONE
        self._learning.clear()
        self._learned = 0
