"""The look-up of what a call is answered with: a record of the run, or of one that it may reuse."""

from collections.abc import Callable

from crew.call.gate import LAST, Order, offered
from crew.define import frozen
from crew.errors import Diverged, Unrecorded
from crew.event import CallCompleted, CallFailed, CallKind, RunEvent
from crew.fold.calls import Record, Records
from crew.fold.paths import step_of
from crew.run.attempts import Attempts

OF_AGENTS: frozenset[CallKind] = frozenset({"model", "tool"})
"""Calls that no code of a step waits for, but an agent within one of its calls."""


@frozen
class Rules:
    """What a run may do beside answering from records.

    `live`: make calls that have no record. `strict`: an offered record of another call is a
    divergence. `effects`: let new effects happen.
    """

    live: bool = True
    strict: bool = False
    effects: bool = True


class Lookup:
    """Finds what is on record of calls, and refuses a call that is another one.

    Args:
        run_id: whose calls they are.
        records: what the run itself has on record.
        offered: records of another run, or of this one as it was, that may answer equal calls.
        attempts: the attempts that call.
        append: appends one event, and carries out what follows from it.
    """

    def __init__(
        self,
        run_id: str,
        records: Records,
        offered: Records,
        attempts: Attempts,
        append: Callable[[RunEvent], None],
    ) -> None:
        self.rules = Rules()
        self.offered = offered
        self.ends = Records()
        """What acts came to, in the run that this one is a fork of, that were under way there."""
        self._run_id = run_id
        self._records = records
        self._attempts = attempts
        self._append = append

    async def find(
        self, path: str, call: CallKind, fingerprint: str, definition: str = ""
    ) -> Record | None:
        """Return what is recorded at `path`: by this run, or by one that it may reuse.

        Raises:
            Diverged: it is another call.
        """
        record = self._records.get(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
            end = self.ends.get(path) if record.state == "started" else None
            if end is not None:
                await self._end_as(path, end)
                return self._records.get(path)
            if record.swallowed:
                await self._turn(path, record, record.offset)
            return record
        found = self.offered.get(path)
        if found is None:
            return None
        if self.rules.strict:
            self._compare(path, found, call, fingerprint)
            if found.swallowed:
                await self._turn(path, found, offered(found.offset))
            return found
        equal = (found.call, found.fingerprint) == (call, fingerprint)
        if definition and (not equal or found.data.get("definition", "") != definition):
            # Another prompt or another task: no answer of the model stands, though tools' may.
            self.offered.drop_beneath(path, "model")
            for decided in (":instructions", ":history"):
                self.offered.remove(f"{path}/{decided}")
            return None
        if not equal or found.state != "completed":
            return None
        if call not in OF_AGENTS:
            # Its record gets its place in this journal only when it is handed out.
            await self._turn(path, found, offered(found.offset))
        self._reuse(path, found)
        return self._records.get(path)

    def answers(self, path: str, record: Record, call: CallKind, fingerprint: str) -> bool:
        """Return whether what is known of `path` answers a call, with nothing to wait for."""
        if not record.is_ended or record.swallowed:
            return False
        is_same = record.call == call and record.fingerprint == fingerprint
        return is_same and (self.rules.strict or self._records.get(path) is record)

    def recorded(self, path: str, call: CallKind, fingerprint: str) -> Record | None:
        """Return what is recorded at `path`: by this run, or by the one that it replays.

        Raises:
            Diverged: it is another call.
        """
        record = self.recorded_at(path)
        if record is not None:
            self._compare(path, record, call, fingerprint)
        return record

    def recorded_at(self, path: str) -> Record | None:
        """Return the same, whatever call it is."""
        record = self._records.get(path)
        if record is None and self.rules.strict:
            record = self.offered.get(path)
        return record

    async def _end_as(self, path: str, end: Record) -> None:
        """Let an act that was under way where this run was forked off come to what it did there."""
        await self._turn(path, end, offered(end.offset))
        if end.error is not None:
            self._append(CallFailed(path, end.call, end.error, swallowed=end.swallowed or None))
        else:
            self._append(CallCompleted(path, end.call, end.result))

    async def _turn(self, path: str, record: Record, order: Order) -> None:
        """Return when a call's end may be handed out; what it swallowed then is swallowed now."""
        await self._attempts.around(path, record.call).turn(order, record.swallowed)

    def _reuse(self, path: str, record: Record) -> None:
        """Make a record of another run one of this run's; with an agent's go its calls."""
        if record.call == "agent":
            for inner, beneath in self.offered.beneath(step_of(path)).items():
                if inner.startswith(f"{path}/") and beneath.state == "completed":
                    self._append(_reused(inner, beneath))
        self._append(_reused(path, record))

    def _compare(self, path: str, record: Record, call: CallKind, fingerprint: str) -> None:
        recorded = f"{record.call} {record.fingerprint}"
        asked = f"{call} {fingerprint}"
        if recorded != asked and record.fingerprint:
            raise Diverged(
                run=self._run_id, path=path, recorded=recorded, asked=asked, given=record.given
            )

    def not_recorded(self, path: str, asked: str, *, effects_refused: bool = False) -> Unrecorded:
        """Return the error of a call that must have a record, and has none."""
        return Unrecorded(
            run=self._run_id,
            path=path,
            recorded="no result of a call",
            asked=asked,
            effects_refused=effects_refused,
        )

    def known(self, path: str) -> Record | None:
        """Return what is on record at `path`: of this run, or of one that it may reuse."""
        record = self._records.get(path)
        return self.offered.get(path) if record is None else record

    def is_due(self, path: str) -> bool:
        """Return whether the model call at `path` is to be made, since no record answers it."""
        record = self._records.get(path)
        if record is None:
            found = self.offered.get(path)
            is_offered = found is not None and found.call == "model" and found.state == "completed"
            return self.rules.live and not is_offered
        return self.rules.live and not record.is_ended

    def order_of(self, path: str) -> Order:
        """Return the order in which what came of a call is handed out."""
        if (record := self._records.get(path)) is not None:
            return record.offset
        found = self.offered.get(path)
        return LAST if found is None else offered(found.offset)


def _reused(path: str, record: Record) -> CallCompleted:
    extra = {"fingerprint": record.fingerprint, "reused": True}
    return CallCompleted(path, record.call, {**record.result, **extra})
