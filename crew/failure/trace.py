"""What of an error is for people: its text, and its traceback, both bounded and safe to make."""

from pathlib import Path
from traceback import StackSummary, TracebackException

MESSAGE_CHARACTERS = 4_000
TRACEBACK_CHARACTERS = 8_000
MOST_FRAMES = 50
"""How many of the innermost frames of one traceback are shown."""
MOST_PARTS = 3
"""How many errors of a group its message names."""

_OWN = str(Path(__file__).parents[1])
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"


class RecordedTraceback(Exception):
    """The cause of a recorded error's copy: where the original came up, as text.

    Source: `concurrent.futures.process._RemoteTraceback`, which does the same for another process.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def safe_text(value: object, most: int = MESSAGE_CHARACTERS) -> str:
    """Return `str(value)`, cut to `most` characters; what cannot be shown is named by its class."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001  the user's own `__str__` may raise anything
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"
    return cut(str.__str__(text), most)


def cut(text: str, most: int) -> str:
    """Return a text of at most about `most` characters, which says if it was longer."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… [cut: {len(text)} characters in all]"


def message_of(error: BaseException) -> str:
    """Return an error's message; a group's names what is in it."""
    text = safe_text(error) or type(error).__name__
    if not isinstance(error, BaseExceptionGroup):
        return text
    parts = [f"{type(part).__name__}: {message_of(part)}" for part in error.exceptions[:MOST_PARTS]]
    more = len(error.exceptions) - MOST_PARTS
    return cut(f"{text}: {'; '.join(parts)}{f'; and {more} more' if more > 0 else ''}", 4_000)


def traceback_of(error: BaseException) -> str:
    """Return an error's traceback without this package's frames, its last 8,000 characters."""
    try:
        shown = TracebackException(
            type(error), error, error.__traceback__, limit=-MOST_FRAMES, compact=True
        )
        before = _trimmed(shown)
        text = "".join(shown.format())
    except Exception as problem:  # noqa: BLE001  it is the user's class that is shown
        return f"[no traceback: showing it raises {type(problem).__name__}]"
    whole = f"{before}{_CAUSE if before else ''}{text}"
    return whole if len(whole) <= TRACEBACK_CHARACTERS else f"[cut]…{whole[-TRACEBACK_CHARACTERS:]}"


def _trimmed(shown: TracebackException) -> str:
    """Take out this package's frames; cut off, and return, what was recorded of an earlier one."""
    theirs = [frame for frame in shown.stack if not frame.filename.startswith(_OWN)]
    if theirs:
        shown.stack = StackSummary.from_list(theirs)
    for part in shown.exceptions or ():
        _trimmed(part)
    if (context := shown.__context__) is not None and shown.__cause__ is None:
        _trimmed(context)
    cause = shown.__cause__
    if cause is None:
        return ""
    if cause.exc_type is RecordedTraceback:
        shown.__cause__ = None
        return str(cause).strip("\n") + "\n"
    return _trimmed(cause)
