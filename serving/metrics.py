"""`GET /metrics`: what the processes of this server did, for Prometheus."""

import asyncio
import math
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crew.errors import StoreError
from crew.journal import OPEN, Busy, RunRow
from crew.run import Run, Runtime
from crew.telemetry import Metrics
from crew.telemetry.series import Counted, Counter, Gauge, Histogram
from serving.http.operation import Operation

__all__ = ["OPERATIONS", "Everyone", "Meter", "Metered"]

Everyone: TypeAlias = Callable[[], Awaitable[Iterable[Counted]]]
"""Asks all processes of a server what each has counted."""

_MOST_OPEN = 100_000
_FIRST_TEXT = (0.03, 0.1, 0.3, 0.6, 1, 2, 3, 6, 10, 20, 30, 60, 120, 300)


class Served(Counted):
    """Counts and measures what one process serves."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = Counter("crew_http_requests", "Served.", ("route", "status"))
        self.streams = Gauge("crew_http_streams_open", "Open streams.")
        self.first_text = Histogram(
            "crew_http_ttft_seconds",
            "From a request to the first text of its stream.",
            _FIRST_TEXT,
        )
        self.asks = Gauge("crew_asks_open", "Questions that wait for a person.")


class Meter:
    """The metrics of one app and of the runtime beneath it.

    Args:
        runtime: the app's.
        everyone: where the app is served by several processes, asks all of them, this one too.
    """

    def __init__(self, runtime: Runtime, everyone: Everyone | None = None) -> None:
        self._runtime = runtime
        self._everyone = everyone or self.counted
        self._asks: dict[int, tuple[int, int]] = {}
        self._counted: dict[str, Counted] = {}
        runtime.metrics()
        self.served = Served()

    async def counted(self) -> list[Counted]:
        """Return what was counted in this process, and in the hosts that drive runs for it."""
        # A host that is gone still counts with what it said last, so that no sum ever falls.
        self._counted |= {part.source: part for part in await self._runtime.all_metrics()}
        self.served.asks.value = self._asks_at_work()
        return [self.served, *self._counted.values()]

    async def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        # Two processes may count by the same host.
        parts = {part.source: part for part in await self._everyone()}.values()
        of_runs = Metrics.sum(part for part in parts if isinstance(part, Metrics))
        served = Served.sum(part for part in parts if isinstance(part, Served))
        runs = GaugeMetricFamily("crew_runs_open", "Runs in the store.", labels=["status"])
        served.asks.value += await self._look(runs)
        return generate_latest(_Shown([*of_runs.collect(), *served.collect(), runs]))

    async def _look(self, runs: GaugeMetricFamily) -> float:
        """Count the open runs of the store, whoever drives them, and what those ask that wait."""
        try:
            rows = self._runtime.store.runs(status=OPEN, limit=_MOST_OPEN)
            asks = sum([await self._asks_of(row) for row in rows if row.status == "waiting"])
        except (StoreError, Busy):  # the rest is worth having then more than ever
            return math.nan
        statuses = Tally(row.status for row in rows)
        for status in OPEN:
            runs.add_metric([status], statuses[status])
        numbers = {row.number for row in rows}
        self._asks = {n: known for n, known in self._asks.items() if n in numbers}
        return asks

    def _asks_at_work(self) -> int:
        """Count what runs ask that are at work here besides: nobody else knows it yet."""
        try:
            rows = self._runtime.store.runs(status=("running",), limit=_MOST_OPEN)
        except (StoreError, Busy):
            return 0
        return sum(self._runtime.telemetry.open_asks(row.number) or 0 for row in rows)

    async def _asks_of(self, row: RunRow) -> int:
        driven = self._runtime.telemetry.open_asks(row.number)
        if driven is not None:
            return driven
        offset, count = self._asks.get(row.number, (-1, 0))
        if offset != row.offset:  # a run that waits grows seldom: its journal is read once
            count = len(await Run(self._runtime, row).questions())
            self._asks[row.number] = (row.offset, count)
            await asyncio.sleep(0)
        return count


class _Shown:
    """Metrics as Prometheus's client wants them."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class Metered:
    """Counts requests, and measures streams, around the whole app."""

    def __init__(self, app: ASGIApp, meter: Meter, operations: Sequence[Operation]) -> None:
        self._app, self._served = app, meter.served
        self._routes = [Route(item.path, item.handle, methods=[item.method]) for item in operations]
        self._first: dict[object, bytes] = {
            item.handle: item.first_text for item in operations if item.first_text
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answered(self._served, self._first, scope, send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._served.answered.add((self._route(scope), str(answer.status)))
            if answer.is_stream:
                self._served.streams.value -= 1

    def _route(self, scope: Scope) -> str:
        found = [(route.matches(scope)[0], route.path) for route in self._routes]
        for wanted in (Match.FULL, Match.PARTIAL):
            for match, path in found:
                if match == wanted:
                    return path
        return "none"


class _Answered:
    """What goes out for one request; without an answer it is a defect of ours."""

    def __init__(
        self, served: Served, first: dict[object, bytes], scope: Scope, send: Send
    ) -> None:
        self.status = 500
        self.is_stream = False
        self._served, self._first, self._scope, self._send = served, first, scope, send
        self._began = time.monotonic()
        self._mark = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif self._mark and self._mark in message.get("body", b""):
            self._mark = b""
            self._served.first_text.add(time.monotonic() - self._began)
        await self._send(message)

    def _start(self, message: Message) -> None:
        self.status = message["status"]
        headers = dict(message.get("headers", ()))
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            self.is_stream = True
            self._served.streams.value += 1
            self._mark = self._first.get(self._scope.get("endpoint"), b"")


async def metrics(request: Request) -> Response:
    """Give the metrics."""
    meter: Meter = request.app.state.meter
    return Response(await meter.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


OPERATIONS = [
    Operation(
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus.",
        handle=metrics,
        content=CONTENT_TYPE_PLAIN_0_0_4,
        answer={"type": "string"},
    ),
]
