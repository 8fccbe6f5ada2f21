"""The views that steps and tools have of the state of their run's thread, opened at the first look.

What a view begins with is on record, so that code that is entered again, or replayed, sees what it
saw before, whatever others have changed since.
"""

from crew.call.attempt import Attempt
from crew.call.thread_view import ThreadView
from crew.event import CallCompleted
from crew.run.calls import RunCalls
from crew.value.changes import Changes, joined

__all__ = ["view_of"]


def view_of(run: RunCalls, attempt: Attempt) -> ThreadView:
    """Return the view of an attempt, which is opened now if it is not.

    Of a step it begins with what the steps have changed that completed before, of a tool with what
    its caller sees, and what the agent's other tools have changed that ended before.
    """
    if attempt.thread is None:
        attempt.thread = ThreadView(run.thread().state.kept, _base(run, attempt))
    return attempt.thread


def _base(run: RunCalls, attempt: Attempt) -> Changes:
    path = f"{attempt.path}/:thread"
    record = run.lookup.recorded(path, "value", "")
    if record is not None:
        changes: Changes = record.result["value"]
        return changes
    if attempt.outer is None:
        changes = run.thread_changes.of_run
    else:
        agent = attempt.path.rpartition("/")[0]
        changes = joined(view_of(run, attempt.outer).since_turn(), run.thread_changes.within(agent))
    if run.lookup.rules.live and run.end is None and not attempt.is_over:
        run.append(CallCompleted(path, "value", {"value": changes, "fingerprint": ""}))
    return changes
