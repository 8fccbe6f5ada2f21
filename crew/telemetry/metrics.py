"""Metrics of runs, for Prometheus; no label is an id, so that their number stays small."""

from collections.abc import Mapping

from crew.budget import NANOS
from crew.fold.work import FirstText, Work
from crew.message import Json
from crew.telemetry.series import Counted, Counter, Histogram
from crew.telemetry.sink import Sink

__all__ = ["Metrics"]

_STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_RUNS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 86400.0)
_CALLS = (0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 6.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_COMMITS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_TOKENS = {"input_tokens": "input", "output_tokens": "output", "cached_tokens": "cached"}


class Metrics(Counted, Sink):
    """Counts and measures what one runtime does."""

    def __init__(self) -> None:
        super().__init__()
        self._runs = Counter("crew_runs", "Runs that ended.", ("workflow", "version", "outcome"))
        self._run_seconds = Histogram(
            "crew_run_duration_seconds", "From a run's start to its end.", _RUNS, ("workflow",)
        )
        self._node_seconds = Histogram(
            "crew_node_duration_seconds", "One step of a node.", _STEPS, ("workflow", "node")
        )
        self._tokens = Counter(
            "crew_llm_tokens", "Tokens; cached ones are part of the input.", ("model", "kind")
        )
        self._money = Counter(
            "crew_llm_money", "What models cost, in the currency of their prices.", ("model",)
        )
        self._call_seconds = Histogram(
            "crew_llm_call_duration_seconds", "One call of a model.", _CALLS, ("model",)
        )
        self._first_text_seconds = Histogram(
            "crew_llm_ttft_seconds", "To the first text of a streaming model.", _CALLS, ("model",)
        )
        self._tools = Counter("crew_tool_calls", "Calls of tools.", ("tool", "outcome"))
        self._commit_seconds = Histogram(
            "crew_log_commit_seconds", "One transaction of the store.", _COMMITS
        )
        self._events = Counter("crew_log_events", "Events written.")
        self._refusals = Counter("crew_budget_refusals", "Calls that a budget refused.")
        self._recoveries = Counter(
            "crew_recoveries", "Runs taken from a worker that died or fell silent."
        )

    def ended(self, work: Work) -> None:
        kind = work.kind
        if kind == "step":
            self._node_seconds.add(work.seconds, (work.run.workflow, work.node))
        elif kind == "model":
            self._model_ended(work, str(work.asked.get("model", "")))
        elif kind == "tool":
            self._tools.add((str(work.asked.get("tool", "")), work.outcome))
        elif kind == "run":
            # A fork's version is its base's, and what it overrides.
            version = work.run.version.partition("+")[0]
            self._runs.add((work.run.workflow, version, work.outcome))
            self._run_seconds.add(work.seconds, (work.run.workflow,))

    def _model_ended(self, work: Work, model: str) -> None:
        self._call_seconds.add(work.seconds, (model,))
        usage: Mapping[str, Json] = work.result.get("usage") or {}
        for name, kind in _TOKENS.items():
            self._tokens.add((model, kind), usage.get(name, 0))
        if nanos := usage.get("money_nanos"):
            self._money.add((model,), nanos / NANOS)

    def first_text(self, first: FirstText) -> None:
        self._first_text_seconds.add(first.seconds, (first.model,))

    def refused(self) -> None:
        self._refusals.add()

    def recovered(self) -> None:
        self._recoveries.add()

    def committed(self, events: int, seconds: float) -> None:
        self._events.add(count=events)
        self._commit_seconds.add(seconds)
