"""Runs that cannot go on by themselves: whoever answers one, or waits for one, is told at once."""

from crew.journal import OPEN
from crew.run import Run
from crew.run.loaded import unloaded_text
from serving.access.caller import Caller
from serving.http.errors import ApiError

__all__ = ["parked_error", "refuse_stuck", "refuse_stuck_thread"]


def parked_error(run: str, why: str) -> ApiError:
    """Return what is said of a run that waits for somebody to choose a way on."""
    return ApiError(
        status=409,
        message=f"run {run} waits for a decision ({why}); see it with: crew show {run}",
        type="conflict_error",
        code="run_parked",
    )


async def refuse_stuck(run: Run) -> None:
    """Refuse what would wait for a run that does not go on by itself.

    Raises:
        ApiError: 409, it is parked; 503, nobody has its code loaded.
    """
    if await run.status() not in OPEN:
        return
    if (parked := (await run.ending()).parked) is not None:
        raise parked_error(run.id, f"{parked.reason}: {parked.detail}")
    if not await run.is_loaded():
        raise ApiError(
            status=503,
            message=f"{unloaded_text(run.id, run.workflow, run.version)}; nothing was stored, "
            "send it again then",
            type="server_error",
            code="workflow_not_loaded",
        )


async def refuse_stuck_thread(caller: Caller, thread: str, key: str | None) -> None:
    """Refuse a turn that would wait behind one that does not go on by itself.

    A request that is sent again, by its idempotency `key`, has a turn there already.

    Raises:
        ApiError: as `refuse_stuck`.
    """
    runs = await caller.runs(status=OPEN, thread=thread)
    if key is None or all(run.key != key for run in runs):
        for run in runs:
            await refuse_stuck(run)
