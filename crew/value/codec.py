"""The codec of one annotation: values to JSON and back, and what is refused on the way."""

import inspect
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from crew.define import frozen
from crew.errors import OutputInvalid, Unreadable
from crew.message import Json
from crew.value.annotation import describe
from crew.value.document import document
from crew.value.exact import Inexact
from crew.value.plain import Mismatch
from crew.value.same import difference, shown
from crew.value.shape import MOST_BYTES, adapter_of, json_bytes, shape_of, storable_bytes
from crew.value.weight import LIGHT

_CONSTANT = (str, int, bool)
"""Types whose values are JSON as they are, and cannot change."""
_FAILURES = (
    PydanticSerializationError,
    ValidationError,
    Mismatch,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What a value, or stored JSON, of another type than the annotation's may lead to."""
_LONG = MOST_BYTES // 6
"""Characters of text that may be too big: one is up to six bytes of JSON."""
_PYDANTICS_TITLE = "Pydantic serializer warnings:"
"""A first line that says nothing of what is wrong."""


@frozen
class Big:
    """A big value as it is stored, the copy that goes on in its place, and the JSON's text."""

    stored: Json
    copy: Any
    document: bytes


class Codec:
    """Encodes and decodes the values of one annotation.

    Args:
        annotation: the type; without one, only JSON types are allowed.
        where: of what it is the annotation, for messages.
        only_read: somebody reads the JSON, and nothing is decoded from it.

    Raises (constructor):
        GraphError: pydantic cannot handle the annotation, or its values would never come back.
    """

    def __init__(self, annotation: Any, *, where: str, only_read: bool = False) -> None:
        self.annotation = annotation
        self.where = where
        self._only_read = only_read
        self._shape = shape_of(annotation, where, only_read=only_read, in_parts=self._in_parts)
        self._exact = self._shape.exact
        self._constant = annotation if annotation in _CONSTANT else None

    _in_parts = False

    @cached_property
    def is_light(self) -> bool:
        """Whether none of its values is big, whatever they are."""
        return isinstance(self.annotation, type) and self.annotation in LIGHT

    @cached_property
    def in_parts(self) -> "Codec":
        """What does the same with big values, beside the event loop; their size is not looked at.

        It takes longer, and no call of C does.
        """
        return _CodecInParts(self.annotation, where=self.where, only_read=self._only_read)

    def big(self, value: object) -> Big:
        """Return what `passed_on` does of a big value, and its JSON; to be called aside.

        Raises:
            OutputInvalid: as there.
        """
        try:
            stored, copy = self.in_parts.passed_on(value)
            return Big(stored, copy, document(stored))
        except Mismatch as error:
            raise self._invalid(value, str(error)) from error
        except RuntimeError as error:  # as by a dict that grows while it is gone through
            reason = f"{error}; let nothing change what was returned"
            raise self._invalid(value, reason) from error

    def encode(self, value: object) -> Json:
        """Return `value` as JSON. Whether it comes back is not looked at: see `passed_on`.

        Raises:
            OutputInvalid: it is not of the annotation's type.
        """
        try:
            return self._shape.encode(value)
        except _FAILURES as error:
            raise self._invalid(value, _reason(error)) from error

    def decode(self, stored: Json) -> Any:
        """Return the value that `stored` stands for, validated.

        Raises:
            OutputInvalid: it does not validate.
        """
        try:
            return self._shape.decode(stored)
        except _FAILURES as error:
            raise self._invalid(stored, _reason(error)) from error

    def passed_on(self, value: object) -> tuple[Json, Any]:
        """Return `value` encoded, and the decoded copy that goes on in its place.

        Raises:
            OutputInvalid: it is not of the annotation's type, or the copy is not the same.
        """
        if type(value) is self._constant and (not isinstance(value, str) or len(value) < _LONG):
            return value, value
        if self._exact is not None:
            try:
                stored = self._exact(value)
                return stored, self.decode(stored)
            except (Inexact, KeyError):
                pass  # it is not exactly of the type, and may still come back as it was
        stored = self.encode(value)
        if isinstance(stored, (str, list, dict)):
            self._refuse_huge(stored)
        copy = self.decode(stored)
        found = difference(value, copy)
        if found is not None:
            raise self._invalid(
                value, f"{found}; annotate the type that it has, or leave it out of what is stored"
            )
        return stored, copy

    def _refuse_huge(self, stored: Json) -> None:
        try:
            storable_bytes(stored)
        except Mismatch as error:
            raise self._invalid(stored, str(error)) from error

    def read_back(self, stored: Json) -> Any:
        """Return the value that a journal holds as `stored`, perhaps written by other code.

        Raises:
            Unreadable: it does not validate any more, or a part of it would be lost or changed.
        """
        if type(stored) is self._constant:
            return stored
        try:
            value = self._shape.decode(stored)
            lost = _lost(stored, self._shape.encode(value))
        except _FAILURES as error:
            value, lost = None, _reason(error)
        if not lost:
            return value
        raise Unreadable(
            where=self.where,
            recorded=shown(stored),
            asked=describe(self.annotation),
            reason=lost,
        )

    def taken(self, value: object) -> Json:
        """Return a value from outside as it is stored: of the type, or JSON that validates as it.

        Raises:
            OutputInvalid: it is neither.
        """
        try:
            return self.passed_on(value)[0]
        except OutputInvalid:
            if not _is_json(value):
                raise
        return self.passed_on(self.read(value))[0]

    def read(self, written: Json) -> Any:
        """Return what JSON from outside stands for: by the schema, which knows aliases and no tags.

        JSON with tags is read, too. `true` is no number, and no number is true.

        Raises:
            OutputInvalid: it does not validate.
        """
        text = json_bytes(written)
        if problem := self._flags(text):
            raise self._invalid(written, problem)
        try:
            return self._adapter.validator.validate_json(text, by_alias=True, by_name=True)
        except _FAILURES as error:
            try:
                return self._shape.decode(written)
            except _FAILURES:
                raise self._invalid(written, _reason(error)) from error

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of the annotation, without tags."""
        return self._adapter.json_schema()

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        untyped = self.annotation is inspect.Parameter.empty
        return adapter_of(Any if untyped else self.annotation, self.where)

    def _flags(self, text: bytes | str) -> str:
        """Return where JSON has a truth value in place of a number, or the reverse, or nothing."""
        try:
            self._adapter.validator.validate_json(text, strict=True, by_alias=True, by_name=True)
        except ValidationError as error:
            flags = (item for item in error.errors(include_url=False) if _is_flag(item))
            return next(map(_located, flags), "")
        except _FAILURES:
            return ""  # a validator's own way of refusing, which comes up again without `strict`
        return ""

    def _invalid(self, value: object, reason: str) -> OutputInvalid:
        received = shown(value)
        return OutputInvalid(
            message=f"{self.where} must be {describe(self.annotation)}, got {received}: {reason}",
            received=received,
        )


class _CodecInParts(Codec):
    _in_parts = True

    def _refuse_huge(self, stored: Json) -> None:
        """Whoever writes its JSON down knows how big it is."""


def _is_flag(error: Any) -> bool:
    given = error["input"]
    if error["type"] == "bool_type":
        return isinstance(given, (int, float))
    return isinstance(given, bool)


def _lost(stored: Any, again: Any, path: str = "") -> str:
    """Return what of `stored` is not in `again`, its value written once more; or nothing."""
    if isinstance(stored, dict) and isinstance(again, dict):
        for name, item in stored.items():
            place = f"{path}.{name}" if path else name
            if name not in again:
                return f"{place} is no part of it any more"
            if found := _lost(item, again[name], place):
                return found
        return ""
    if isinstance(stored, list) and isinstance(again, list) and len(stored) == len(again):
        parts = enumerate(zip(stored, again, strict=True))
        return next((found for n, pair in parts if (found := _lost(*pair, f"{path}[{n}]"))), "")
    flags = isinstance(stored, bool) != isinstance(again, bool)
    if flags or stored != again:
        return f"{path or 'it'} would be read as {shown(again)}"
    return ""


def _is_json(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (str, int, float, bool)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(_located(item) for item in error.errors(include_url=False)[:5])
    lines = str(error).removeprefix(_PYDANTICS_TITLE).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _located(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {item['msg']}" if place else item["msg"]
