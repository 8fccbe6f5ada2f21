"""Series of numbers that several processes count, and that add up to one.

Counting costs a fraction of a microsecond: the numbers are kept in plain dictionaries, and become
Prometheus's own when somebody asks for them.
"""

import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

from crew.define import define

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["Counted", "Counter", "Gauge", "Histogram", "Labels"]

Labels = tuple[str, ...]


@define
class Counter:
    name: str
    text: str
    labels: Labels = ()
    counts: dict[Labels, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels:
            self.counts[()] = 0

    def add(self, labels: Labels = (), count: float = 1) -> None:
        self.counts[labels] = self.counts.get(labels, 0) + count

    def plus(self, other: "Counter") -> None:
        for labels, count in other.counts.items():
            self.add(labels, count)

    def family(self) -> "Metric":
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, count in self.counts.items():
            family.add_metric(labels, count)
        return family


@define
class Histogram:
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

    def plus(self, other: "Histogram") -> None:
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


@define
class Gauge:
    """What is under way now; that of several processes is their sum."""

    name: str
    text: str
    value: float = 0

    def plus(self, other: "Gauge") -> None:
        self.value += other.value

    def family(self) -> "Metric":
        from prometheus_client.metrics_core import GaugeMetricFamily

        return GaugeMetricFamily(self.name, self.text, value=self.value)


class Counted:
    """Series that one process counts; they may travel to another one.

    `source` tells those of one process and time from all others. A subclass makes its series in
    its constructor, which takes nothing.
    """

    def __init__(self) -> None:
        self.source = secrets.token_hex(8)

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> Self:
        """Return what several counted together."""
        total = cls()
        for part in parts:
            for name, series in total._series():
                series.plus(vars(part)[name])
        return total

    def collect(self) -> Iterator["Metric"]:
        """Yield everything as Prometheus's client has it."""
        for _, series in self._series():
            yield series.family()

    def total(self) -> float:
        """Return how much was counted: of two states of one process, the later has no less."""
        counters = [it.counts.values() for _, it in self._series() if isinstance(it, Counter)]
        histograms = [it.counts.values() for _, it in self._series() if isinstance(it, Histogram)]
        return sum(map(sum, counters)) + sum(sum(map(sum, counts)) for counts in histograms)

    def rest(self) -> None:
        """Note that the process is gone: nothing of it is under way any more."""
        for _, series in self._series():
            if isinstance(series, Gauge):
                series.value = 0

    def _series(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if isinstance(value, Counter | Gauge | Histogram):
                yield name, value
