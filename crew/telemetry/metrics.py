"""Metrics of runs, for Prometheus; no label is an id, so that their number stays small."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from crew.message import Json
from crew.telemetry.observer import Sink
from crew.telemetry.work import FirstText, Work

__all__ = ["Metrics"]

_STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_RUNS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 86400)
_CALLS = (0.03, 0.1, 0.3, 0.6, 1, 2, 3, 6, 10, 20, 30, 60, 120, 300)
_COMMITS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
_TOKENS = {"input_tokens": "input", "output_tokens": "output", "cached_tokens": "cached"}


class Metrics(Sink):
    """Counts and measures what one runtime does, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._runs = counter("crew_runs", "Runs that ended.", "workflow", "version", "outcome")
        self._run_seconds = histogram(
            "crew_run_duration_seconds", "From a run's start to its end.", _RUNS, "workflow"
        )
        self._node_seconds = histogram(
            "crew_node_duration_seconds", "One step of a node.", _STEPS, "workflow", "node"
        )
        self._tokens = counter(
            "crew_llm_tokens", "Tokens; cached ones are part of the input.", "model", "kind"
        )
        self._call_seconds = histogram(
            "crew_llm_call_duration_seconds", "One call of a model.", _CALLS, "model"
        )
        self._first_text_seconds = histogram(
            "crew_llm_ttft_seconds", "To the first text of a model that streams.", _CALLS, "model"
        )
        self._tools = counter("crew_tool_calls", "Calls of tools.", "tool", "outcome")
        self._commit_seconds = histogram(
            "crew_log_commit_seconds", "One transaction of the store.", _COMMITS
        )
        self._events = counter("crew_log_events", "Events written.")
        self._refusals = counter("crew_budget_refusals", "Calls that a budget refused.")
        self._recoveries = counter(
            "crew_recoveries", "Runs taken from a worker that died or fell silent."
        )

    def ended(self, work: Work) -> None:
        match work.kind:
            case "step":
                self._node_seconds.labels(work.run.workflow, work.node).observe(work.seconds)
            case "model":
                self._model_ended(work, str(work.asked.get("model", "")))
            case "tool":
                self._tools.labels(str(work.asked.get("tool", "")), work.outcome).inc()
            case "run":
                # A fork's version is its base's, and what it overrides.
                version = work.run.version.partition("+")[0]
                self._runs.labels(work.run.workflow, version, work.outcome).inc()
                self._run_seconds.labels(work.run.workflow).observe(work.seconds)
            case "agent":
                pass

    def _model_ended(self, work: Work, model: str) -> None:
        self._call_seconds.labels(model).observe(work.seconds)
        usage: Mapping[str, Json] = work.result.get("usage") or {}
        for name, kind in _TOKENS.items():
            self._tokens.labels(model, kind).inc(usage.get(name, 0))

    def spoke(self, first: FirstText) -> None:
        self._first_text_seconds.labels(first.model).observe(first.seconds)

    def refused(self) -> None:
        self._refusals.inc()

    def recovered(self) -> None:
        self._recoveries.inc()

    def committed(self, events: int, seconds: float) -> None:
        self._events.inc(events)
        self._commit_seconds.observe(seconds)
