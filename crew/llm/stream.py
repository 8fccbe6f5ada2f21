"""Server-sent events, as far as chunks of an answer are sent by them."""

from collections.abc import AsyncIterator

__all__ = ["event_data", "is_event_stream"]

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_event_stream(beginning: bytes) -> bool:
    """Tell by its first bytes whether a body is a stream of events, whatever its type says."""
    return beginning.lstrip(b"\xef\xbb\xbf\r\n\t ").startswith(_FIELDS)


async def event_data(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event; that of several lines is joined by line ends.

    Source: the HTML standard, section 9.2.6.
    """
    data: list[bytes] = []
    async for line in _lines(body):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:
        yield b"\n".join(data)


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest, is_first = b"", True
    async for piece in body:
        rest += piece
        if is_first and len(rest) >= 3:
            rest, is_first = rest.removeprefix(b"\xef\xbb\xbf"), False
        # A line ends with either or both; whether a last \r is followed by \n is not known yet.
        held = b"\r" if rest.endswith(b"\r") else b""
        whole = rest.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = whole.split(b"\n")
        rest += held
        for line in lines:
            yield line
    for line in rest.rstrip(b"\r").split(b"\r"):
        yield line
