"""The observer of a runtime's writer: it logs what runs come to, and passes on what they did."""

import logging
import sys
from collections.abc import Sequence

from crew.fold import Failure, RunEvent
from crew.fold.work import SELDOM, Refusal, RunFacts, Trouble, Work, WorkUnderWay
from crew.journal import PARKED, NewRun, Operation, Release, RunRow, Started, Take
from crew.journal.writer import OpenRun, TimedEvent
from crew.telemetry.metrics import Metrics
from crew.telemetry.sink import Sink

__all__ = ["Telemetry"]

logger = logging.getLogger(__name__)


class Telemetry:
    """Gets from a writer what is durable, and passes on to its sinks what that comes to.

    An error of a sink harms no run: the writer is done with a commit before it tells of it, and
    logs what comes of that.
    """

    def __init__(self) -> None:
        self.watches = False
        """Whether somebody asks for every event, not only for those that change a run's status."""
        self._sinks: list[Sink] = []
        self._runs: dict[int, WorkUnderWay] = {}
        self._metrics: Metrics | None = None

    def add(self, sink: Sink) -> None:
        """Tell `sink` of everything that is written from now on."""
        self._sinks.append(sink)
        self.watches = True

    def count(self) -> Metrics:
        """Count from now on, and return what was counted."""
        if self._metrics is None:
            self._metrics = Metrics()
            self.add(self._metrics)
        return self._metrics

    def add_spans(self) -> None:
        """Make spans, if this process has an OpenTelemetry SDK configured; else do nothing."""
        if "opentelemetry.trace" not in sys.modules:
            return  # then nobody can have configured one, and loading it would cost
        from crew.telemetry.traces import Traces, configured_tracer

        if (tracer := configured_tracer()) is not None:
            self.add(Traces(tracer))

    def open_asks(self, number: int) -> int | None:
        """Return how many questions a run asks that is driven here; None if it is not."""
        under_way = self._runs.get(number)
        return None if under_way is None else len(under_way.asks)

    def carried_out(self, operation: Operation, result: object) -> None:
        match operation, result:
            case NewRun(), Started(row=row, is_new=True):
                _log("run.started", row, parent=row.parent)
            case Take(from_owner=owner), RunRow() as row:
                _log("run.taken", row, offset=row.offset, from_owner=owner)
                if owner not in (None, PARKED):
                    for sink in self._sinks:
                        sink.recovered()
            case Release(number=number), _:
                self._runs.pop(number, None)
            case _:
                pass

    def reopened(self, run: OpenRun, events: Sequence[TimedEvent]) -> None:
        """Know what is under way of a run that is driven from here on; it was reported before."""
        assert run.row is not None
        under_way = self._runs[run.number] = WorkUnderWay(run.row)
        for at, event in events:
            under_way.know(at, event)

    def appended(self, run: OpenRun, events: Sequence[TimedEvent]) -> None:
        if not self._sinks and not logger.isEnabledFor(logging.INFO):
            return  # nobody asks
        under_way = self._runs.get(run.number)
        if under_way is None:
            assert run.row is not None
            under_way = self._runs[run.number] = WorkUnderWay(run.row)
        for at, event in events:
            happened = under_way.follow(at, event)
            if isinstance(happened, Work):
                self._ended(happened)
            elif happened is not None:
                for sink in self._sinks:
                    sink.first_text(happened)
            if type(event) in SELDOM:
                self._report_more(under_way, at, event)

    def _report_more(self, under_way: WorkUnderWay, at: float, event: RunEvent) -> None:
        for happened in under_way.more(at, event):
            match happened:
                case Work():
                    self._ended(happened)
                case Refusal():
                    for sink in self._sinks:
                        sink.refused()
                case Trouble(event=name, facts=facts, error=error):
                    known = {} if error is None else _facts(error)
                    _log(name, under_way.run, **facts, **known)

    def _ended(self, work: Work) -> None:
        for sink in self._sinks:
            sink.ended(work)
        if work.kind == "run":
            self._runs.pop(work.run.number, None)
            seconds = round(work.seconds, 3)
            _log(f"run.{work.outcome}", work.run, seconds=seconds, **_facts(work.error))

    def refused(self, run: OpenRun, error: Exception) -> None:
        """What was appended to a run was not written, and it is not driven here any more."""
        self._runs.pop(run.number, None)
        if run.row is not None:
            _log("run.lost", run.row, error=type(error).__name__)

    def committed(self, events: int, seconds: float) -> None:
        for sink in self._sinks:
            sink.committed(events, seconds)


def _facts(error: Failure | None) -> dict[str, str | None]:
    """Return what is logged of an error, if there is one."""
    if error is None:
        return {"error": None}
    return {"error": error.type, "traceback": error.traceback}


def _log(event: str, run: RunFacts, **facts: str | float | None) -> None:
    if logger.isEnabledFor(logging.INFO):
        # `thread` is taken: it is the one of the process that logs.
        named = {"run": run.id, "workflow": run.workflow, "version": run.version}
        logger.info(event, extra=named | {"tenant": run.tenant, "conversation": run.thread} | facts)
