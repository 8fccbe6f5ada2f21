"""`GET /metrics`: what this process did, for Prometheus."""

import asyncio
import math
import time
from collections import Counter as Tally
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crew.errors import StoreError
from crew.journal import OPEN, Busy, RunRow
from crew.run import Run, Runtime
from crew.telemetry import Metrics
from serving.http.operation import Operation

__all__ = ["OPERATIONS", "Meter", "Metered"]

_MOST_OPEN = 100_000
_FIRST_TEXT = (0.03, 0.1, 0.3, 0.6, 1, 2, 3, 6, 10, 20, 30, 60, 120, 300)


class Meter:
    """The metrics of one app and of the runtime beneath it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._registry = CollectorRegistry()
        self._asks: dict[int, tuple[int, int]] = {}
        self._counted: dict[str, Metrics] = {}
        runtime.metrics()
        self.requests = Counter(
            "crew_http_requests", "Requests.", ("route", "status"), registry=self._registry
        )
        self.streams = Gauge("crew_http_streams_open", "Open streams.", registry=self._registry)
        self.first_text = Histogram(
            "crew_http_ttft_seconds",
            "From a request to the first text of its stream.",
            buckets=_FIRST_TEXT,
            registry=self._registry,
        )
        self._runs_open = Gauge(
            "crew_runs_open", "Runs in the store.", ("status",), registry=self._registry
        )
        self._asks_open = Gauge(
            "crew_asks_open", "Questions that wait for a person.", registry=self._registry
        )

    async def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        try:
            await self._look()
        except (StoreError, Busy):  # the rest is worth having then more than ever
            self._runs_open.clear()
            self._asks_open.set(math.nan)
        # A host that is gone still counts with what it said last, so that no sum ever falls.
        self._counted |= {part.source: part for part in await self._runtime.all_metrics()}
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield what is exposed: the time at which each series was made is not."""
        yield from Metrics.sum(self._counted.values()).collect()
        for metric in self._registry.collect():
            metric.samples = [it for it in metric.samples if not it.name.endswith("_created")]
            yield metric

    async def _look(self) -> None:
        """Look into the store for what is open there, whoever drives it."""
        rows = self._runtime.store.runs(status=OPEN, limit=_MOST_OPEN)
        statuses = Tally(row.status for row in rows)
        for status in OPEN:
            self._runs_open.labels(status).set(statuses[status])
        self._asks_open.set(sum([await self._asks_of(row) for row in rows]))
        numbers = {row.number for row in rows}
        self._asks = {n: known for n, known in self._asks.items() if n in numbers}

    async def _asks_of(self, row: RunRow) -> int:
        driven = self._runtime.telemetry.open_asks(row.number)
        if driven is not None or row.status != "waiting":
            return driven or 0
        offset, count = self._asks.get(row.number, (-1, 0))
        if offset != row.offset:  # a run that waits grows seldom: its journal is read once
            count = len(await Run(self._runtime, row).questions())
            self._asks[row.number] = (row.offset, count)
            await asyncio.sleep(0)
        return count


class Metered:
    """Counts requests, and measures streams, around the whole app."""

    def __init__(self, app: ASGIApp, meter: Meter, operations: Sequence[Operation]) -> None:
        self._app, self._meter = app, meter
        self._routes = [Route(item.path, item.handle, methods=[item.method]) for item in operations]
        self._first: dict[object, bytes] = {
            item.handle: item.first_text for item in operations if item.first_text
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answered(self._meter, self._first, scope, send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            self._meter.requests.labels(self._route(scope), str(answer.status)).inc()
            if answer.is_stream:
                self._meter.streams.dec()

    def _route(self, scope: Scope) -> str:
        found = [(route.matches(scope)[0], route.path) for route in self._routes]
        for wanted in (Match.FULL, Match.PARTIAL):
            for match, path in found:
                if match == wanted:
                    return path
        return "none"


class _Answered:
    """What goes out for one request; without an answer it is a defect of ours."""

    def __init__(self, meter: Meter, first: dict[object, bytes], scope: Scope, send: Send) -> None:
        self.status = 500
        self.is_stream = False
        self._meter, self._first, self._scope, self._send = meter, first, scope, send
        self._began = time.monotonic()
        self._mark = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif self._mark and self._mark in message.get("body", b""):
            self._mark = b""
            self._meter.first_text.observe(time.monotonic() - self._began)
        await self._send(message)

    def _start(self, message: Message) -> None:
        self.status = message["status"]
        headers = dict(message.get("headers", ()))
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            self.is_stream = True
            self._meter.streams.inc()
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
