"""What goes over a link: messages about a piece of work of a run, and what is answered to them."""

from typing import NamedTuple

from crew.message import Json


class Message(NamedTuple):
    """Something asked of, or only sent to, the process at the other end.

    Args:
        verb: what is asked.
        run: the run that it is about.
        epoch: that of the run's owner; a later one fences it off.
        path: the piece of work in it.
        body: whatever belongs to it.
        parts: bytes that go beside the body, as they are.
    """

    verb: str
    run: str = ""
    epoch: int = 0
    path: str = ""
    body: Json = None
    parts: tuple[bytes, ...] = ()


class Answer(NamedTuple):
    """What was answered."""

    body: Json = None
    parts: tuple[bytes, ...] = ()
