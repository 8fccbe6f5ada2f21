"""The answer's text as a chat gets it: what was sent cannot be taken back there."""

from collections.abc import Iterable, Sequence

from crew.event import Event
from serving.http.errors import ApiError

__all__ = ["SentText", "is_within"]


class SentText:
    """What was sent to one reader.

    Args:
        run: the run's id.
        recorded: its events when the reading begins; text that was void then is left out.
    """

    def __init__(self, run: str, recorded: Iterable[Event]) -> None:
        self._run = run
        self._void = _void(recorded)
        self._sent: set[str] = set()

    @property
    def is_silent(self) -> bool:
        return not self._sent

    def take(self, batch: Sequence[Event]) -> dict[int, str]:
        """Return the text that a batch adds, by the offsets of its events.

        Raises:
            ApiError: text of an earlier batch is void.
        """
        void = self._void | _void(batch)
        for event in batch:
            if event.kind == "text.discarded" and _within(event.path, self._sent):
                raise _taken_back(self._run)
        emitted = [e for e in batch if e.kind == "text.emitted" and e.offset not in void]
        self._sent.update(event.path for event in emitted)
        return {event.offset: str(event.data.get("text", "")) for event in emitted}


def is_within(path: str, place: str) -> bool:
    """Return whether a path is `place`, or beneath it."""
    return path == place or path.startswith(f"{place}/")


def _within(place: str, paths: Iterable[str]) -> bool:
    return any(is_within(path, place) for path in paths)


def _void(events: Iterable[Event]) -> set[int]:
    """Return the offsets of text that later ones of the events take back."""
    emitted: dict[int, str] = {}
    void: set[int] = set()
    for event in events:
        if event.kind == "text.emitted":
            emitted[event.offset] = event.path
        elif event.kind == "text.discarded":
            gone = {offset for offset, path in emitted.items() if is_within(path, event.path)}
            void |= gone
            for offset in gone:
                del emitted[offset]
    return void


def _taken_back(run: str) -> ApiError:
    return ApiError(
        status=409,
        message=f"what run {run} has said is void, and is said anew; the run goes on: ask again "
        f"with the same Idempotency-Key, or read it at /v1/responses/resp_{run}",
        type="server_error",
        code="text_taken_back",
    )
