"""Errors as values: how an exception becomes a `Failure`, and an exception again.

What a call raised is recorded, and the copy made from its record is what goes on, live as on
resume and replay; so code that catches an error cannot tell the one from the other.
"""

from crew.failure.copy import error_of, failure_of, raise_again, run_failed
from crew.failure.data import Placeholder
from crew.failure.trace import RecordedTraceback, message_of, safe_text

__all__ = [
    "Placeholder",
    "RecordedTraceback",
    "error_of",
    "failure_of",
    "message_of",
    "raise_again",
    "run_failed",
    "safe_text",
]
