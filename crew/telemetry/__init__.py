"""Metrics, spans and log events, all made of what was written to the journal.

A run's writer hands each event to one observer once it is durable. Nothing is called from the code
that works, and nothing is counted that a crash could take back.
"""

from crew.fold.work import Outcome, Work
from crew.telemetry.metrics import Metrics
from crew.telemetry.observer import Telemetry
from crew.telemetry.sink import Sink

__all__ = ["Metrics", "Outcome", "Sink", "Telemetry", "Work"]
