"""Metrics of runs, for Prometheus; no label is an id, so that their number stays small.

Counting costs a fraction of a microsecond: the numbers are kept in plain dictionaries, and become
Prometheus's own when somebody asks for them.
"""

import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from crew.message import Json
from crew.telemetry.sink import Sink
from crew.telemetry.work import FirstText, Work

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["Metrics"]

Labels = tuple[str, ...]

_STEPS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_RUNS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 86400.0)
_CALLS = (0.03, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 6.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_COMMITS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_TOKENS = {"input_tokens": "input", "output_tokens": "output", "cached_tokens": "cached"}


@dataclass(slots=True)
class _Counter:
    name: str
    text: str
    labels: Labels = ()
    counts: dict[Labels, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            self.counts[()] = 0

    def add(self, labels: Labels = (), count: float = 1) -> None:
        self.counts[labels] = self.counts.get(labels, 0) + count

    def plus(self, other: "_Counter") -> None:
        for labels, count in other.counts.items():
            self.add(labels, count)

    def family(self) -> "Metric":
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        return family


@dataclass(slots=True)
class _Histogram:
    """Durations in seconds; `bounds` are the upper ones of its buckets, without the infinite."""

    name: str
    text: str
    bounds: tuple[float, ...]
    labels: Labels = ()
    counts: dict[Labels, list[int]] = field(default_factory=dict)
    sums: dict[Labels, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            self._begin(())

    def _begin(self, labels: Labels) -> list[int]:
        self.sums[labels] = 0.0
        counts = self.counts[labels] = [0] * (len(self.bounds) + 1)
        return counts

    def add(self, seconds: float, labels: Labels = ()) -> None:
        counts = self.counts.get(labels)
        if counts is None:
            counts = self._begin(labels)
        counts[bisect_left(self.bounds, seconds)] += 1
        self.sums[labels] += seconds

    def plus(self, other: "_Histogram") -> None:
        for labels, counts in other.counts.items():
            mine = self.counts.get(labels) or self._begin(labels)
            mine[:] = [one + more for one, more in zip(mine, counts, strict=True)]
            self.sums[labels] += other.sums[labels]

    def family(self) -> "Metric":
        from prometheus_client.metrics_core import HistogramMetricFamily
        from prometheus_client.utils import floatToGoString

        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        bounds = [floatToGoString(bound) for bound in (*self.bounds, float("inf"))]
        for labels, counts in self.counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, self.sums[labels])
        return family


class Metrics(Sink):
    """Counts and measures what one runtime does; it may travel between processes.

    `source` tells those of one process and time from all others.
    """

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)
        self._runs = _Counter("crew_runs", "Runs that ended.", ("workflow", "version", "outcome"))
        self._run_seconds = _Histogram(
            "crew_run_duration_seconds", "From a run's start to its end.", _RUNS, ("workflow",)
        )
        self._node_seconds = _Histogram(
            "crew_node_duration_seconds", "One step of a node.", _STEPS, ("workflow", "node")
        )
        self._tokens = _Counter(
            "crew_llm_tokens", "Tokens; cached ones are part of the input.", ("model", "kind")
        )
        self._call_seconds = _Histogram(
            "crew_llm_call_duration_seconds", "One call of a model.", _CALLS, ("model",)
        )
        self._first_text_seconds = _Histogram(
            "crew_llm_ttft_seconds", "To the first text of a streaming model.", _CALLS, ("model",)
        )
        self._tools = _Counter("crew_tool_calls", "Calls of tools.", ("tool", "outcome"))
        self._commit_seconds = _Histogram(
            "crew_log_commit_seconds", "One transaction of the store.", _COMMITS
        )
        self._events = _Counter("crew_log_events", "Events written.")
        self._refusals = _Counter("crew_budget_refusals", "Calls that a budget refused.")
        self._recoveries = _Counter(
            "crew_recoveries", "Runs taken from a worker that died or fell silent."
        )

    @classmethod
    def sum(cls, parts: Iterable["Metrics"]) -> "Metrics":
        """Return what several runtimes counted together."""
        total = cls()
        for part in parts:
            for name, series in vars(total).items():
                if isinstance(series, _Counter | _Histogram):
                    series.plus(vars(part)[name])
        return total

    def collect(self) -> Iterator["Metric"]:
        """Yield everything as Prometheus's client has it."""
        for series in vars(self).values():
            if isinstance(series, _Counter | _Histogram):
                yield series.family()

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

    def spoke(self, first: FirstText) -> None:
        self._first_text_seconds.add(first.seconds, (first.model,))

    def refused(self) -> None:
        self._refusals.add()

    def recovered(self) -> None:
        self._recoveries.add()

    def committed(self, events: int, seconds: float) -> None:
        self._events.add(count=events)
        self._commit_seconds.add(seconds)
