"""Spans of OpenTelemetry: one trace per run, whichever processes drive it.

The trace's id is a hash of the run's, a span's id one of the run's and its path. So whoever takes a
run over goes on with its trace, and no context travels to the hosts of agents. A span is made when
its work has ended, from what the journal holds of it; texts are left out.
"""

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracerProvider,
    ProxyTracerProvider,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_tracer_provider,
    set_span_in_context,
)

from crew.fold.work import Work
from crew.message import Json
from crew.telemetry import names
from crew.telemetry.sink import Sink

__all__ = ["Traces", "configured_tracer", "tracer_of"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, str | int]


def configured_tracer() -> Tracer | None:
    """Return a tracer of the SDK that this process has configured, or None."""
    provider = get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider | NoOpTracerProvider):
        return None
    return tracer_of(provider)


def tracer_of(provider: TracerProvider) -> Tracer:
    """Return this library's tracer, whose spans have the ids that are asked for."""
    tracer: Any = provider.get_tracer("crew", version("raycrew"))
    # The API has no way to give a span an id. The SDK asks its generator; this tracer is ours.
    generator = getattr(tracer, "id_generator", None)
    if generator is not None and not isinstance(generator, _GivenIds):
        tracer.id_generator = _GivenIds(generator)
    return tracer


def trace_id(run: str) -> int:
    """Return the id of a run's trace."""
    return _hash(run, 16)


def span_id(run: str, path: str) -> int:
    """Return the id of the span of the work at `path`, or with an empty one of the run."""
    return _hash(f"{run}\0{path}", 8)


class Traces(Sink):
    """Makes a span of each piece of work."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def ended(self, work: Work) -> None:
        if not self._is_sampled(work.run.id):
            return
        name, kind, attributes = _described(work)
        parent = None if work.kind == "run" else work.parent
        given = _GIVEN.set((trace_id(work.run.id), span_id(work.run.id, work.path)))
        try:
            span = self._tracer.start_span(
                name,
                context=_context(work.run.id, parent),
                kind=kind,
                attributes=attributes,
                links=_links(work),
                start_time=_nanoseconds(work.began_at),
            )
        finally:
            _GIVEN.reset(given)
        if work.outcome in ("failed", "unknown"):
            span.set_status(Status(StatusCode.ERROR, str(attributes[names.ERROR])))
        span.end(end_time=_nanoseconds(work.ended_at))

    def _is_sampled(self, run: str) -> bool:
        """Decide for a whole run at once: its own span, which comes last, must not be asked."""
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None:
            return True
        decision = sampler.should_sample(Context(), trace_id(run), names.INVOKE_WORKFLOW).decision
        return bool(decision.is_sampled())


def _described(work: Work) -> tuple[str, SpanKind, Attributes]:
    attributes: Attributes = {names.RUN: work.run.id}
    if work.run.thread is not None:
        attributes[names.CONVERSATION] = work.run.thread
    if work.path:
        attributes[names.PATH] = work.path
    if work.outcome == "cancelled":
        attributes[names.OUTCOME] = work.outcome
    if work.outcome in ("failed", "unknown"):
        attributes[names.ERROR] = work.error.type if work.error else "unknown"
    kind = SpanKind.INTERNAL
    match work.kind:
        case "run":
            name = f"{names.INVOKE_WORKFLOW} {work.run.workflow}"
            attributes |= {names.AGENT: work.run.workflow, names.VERSION: work.run.version}
            attributes |= {names.OPERATION: names.INVOKE_WORKFLOW} | _usage(work.result)
        case "step":
            name = f"step {work.node}"
        case "agent":
            agent = str(work.asked.get("agent", ""))
            name = f"{names.INVOKE_AGENT} {agent}"
            attributes |= {names.OPERATION: names.INVOKE_AGENT, names.AGENT: agent}
            attributes |= _usage(work.result)
        case "model":
            model, kind = str(work.asked.get("model", "")), SpanKind.CLIENT
            name = f"{names.CHAT} {model}"
            attributes |= {names.OPERATION: names.CHAT, names.PROVIDER: _provider(work)}
            attributes |= {names.REQUEST_MODEL: model} | _usage(work.result)
            if answered := work.result.get("model"):
                attributes[names.RESPONSE_MODEL] = str(answered)
        case "tool":
            tool = str(work.asked.get("tool", ""))
            name = f"{names.EXECUTE_TOOL} {tool}"
            attributes |= {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: tool}
    return name, kind, attributes


def _provider(work: Work) -> str:
    """Who computed: what was known after the answer, else what was known before."""
    known = work.result.get("provider") or work.asked.get("provider")
    return str(known or names.UNKNOWN)


def _usage(result: Mapping[str, Json]) -> Attributes:
    usage: Mapping[str, int] = result.get("usage") or {}
    asked = {"input_tokens": names.INPUT_TOKENS, "output_tokens": names.OUTPUT_TOKENS}
    return {name: usage[key] for key, name in asked.items() if key in usage}


def _context(run: str, parent: str | None) -> Context:
    """Return the context of a span beneath `parent`; without one it is the trace's first."""
    if parent is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_place(run, parent)), Context())


def _place(run: str, path: str) -> SpanContext:
    return SpanContext(trace_id(run), span_id(run, path), is_remote=True, trace_flags=_SAMPLED)


def _links(work: Work) -> list[Link]:
    """A child run is a trace of its own, linked to that of its parent."""
    if work.kind != "run" or work.run.parent is None:
        return []
    return [Link(_place(work.run.parent, ""))]


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000  # the journal's times are whole microseconds


def _hash(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:size])


_GIVEN: ContextVar[tuple[int, int] | None] = ContextVar("_GIVEN", default=None)


class _GivenIds:
    """Generates the ids that were asked for, and where none were, those of the SDK's own."""

    def __init__(self, others: Any) -> None:
        self._others = others

    def generate_trace_id(self) -> int:
        given = _GIVEN.get()
        return int(self._others.generate_trace_id()) if given is None else given[0]

    def generate_span_id(self) -> int:
        given = _GIVEN.get()
        return int(self._others.generate_span_id()) if given is None else given[1]

    def is_trace_id_random(self) -> bool:
        return False
