"""Where log events and spans go, in processes that are this program's own: servers and hosts.

In anybody else's process the library uses what its user has configured.
"""

import json
import logging
import os

from crew.config import Settings
from crew.errors import ExtraMissing

__all__ = ["configure", "configure_tracing"]

_OWN_FIELDS = frozenset({*vars(logging.makeLogRecord({})), "message", "taskName"})
"""What a log record holds besides the facts that were given with the event."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configure(settings: Settings) -> None:
    """Send log events and spans where the settings and OpenTelemetry's variables say.

    Raises:
        ExtraMissing: see `configure_tracing`.
    """
    if settings.log:
        _log_to_stderr(settings.log)
    configure_tracing()


def _log_to_stderr(level: str) -> None:
    """Write a line of JSON for each event."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    for name in ("crew", "serving"):
        log = logging.getLogger(name)
        log.setLevel(level.upper())
        log.handlers = [handler]
        log.propagate = False


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"at": record.created, "level": record.levelname.lower()}
        line = head | {"event": record.getMessage()}
        line |= {name: it for name, it in vars(record).items() if name not in _OWN_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_tracing() -> bool:
    """Send spans where the standard variables say, and return whether they say so.

    An endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`) or `OTEL_TRACES_EXPORTER=otlp` turns them on;
    `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and the others are the SDK's. A provider that is
    configured already is left as it is.

    Raises:
        ExtraMissing: spans are asked for, and the extra `telemetry` is not installed.
    """
    if not _is_asked_for():
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ExtraMissing(message="sending spans (OTEL_* is set)", extra="telemetry") from error
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        provider = TracerProvider(resource=Resource.create(_service()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return True


def _is_asked_for() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return "otlp" in exporter.split(",")
    return any(os.environ.get(name) for name in _ENDPOINTS)


def _service() -> dict[str, str]:
    """Name the service, where the variables do not."""
    named = "OTEL_SERVICE_NAME" in os.environ
    named = named or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if named else {"service.name": "crew"}
