"""The answer's text as a chat gets it: what was sent cannot be taken back there."""

from collections.abc import Iterable, Sequence

from crew.fold import Event, Text, folded, typed_of
from crew.fold.paths import is_within
from serving.http.errors import ApiError

__all__ = ["SentText"]


class SentText:
    """What was sent to one reader.

    Args:
        run: the run's id.
        recorded: its events when the reading begins; text that was void then is left out.
    """

    def __init__(self, run: str, recorded: Iterable[Event]) -> None:
        self._run = run
        self._void = folded(recorded, Text()).void
        self._sent: set[str] = set()

    @property
    def is_silent(self) -> bool:
        return not self._sent

    def take(self, batch: Sequence[Event]) -> dict[int, str]:
        """Return the text that a batch adds, by the offsets of its events.

        Raises:
            ApiError: text of an earlier batch is void.
        """
        text = Text()
        for event in batch:
            known = typed_of(event)
            change = None if known is None else text.apply(known, event.offset)
            if change == "discarded" and any(is_within(path, event.path) for path in self._sent):
                raise _taken_back(self._run)
        new = {at: piece for at, piece in text.pieces.items() if at not in self._void}
        self._sent.update(piece.path for piece in new.values())
        return {at: piece.text for at, piece in new.items()}


def _taken_back(run: str) -> ApiError:
    return ApiError(
        status=409,
        message=f"what run {run} has said is void, and is said anew; the run goes on: ask again "
        f"with the same Idempotency-Key, or read it at /v1/responses/resp_{run}",
        type="server_error",
        code="text_taken_back",
    )
