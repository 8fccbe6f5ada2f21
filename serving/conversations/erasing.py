"""Erasing a conversation for good."""

from crew.journal import OPEN
from crew.run import Tenant
from serving.http.errors import ApiError

__all__ = ["erase_thread", "with_branches"]


async def with_branches(tenant: Tenant, thread: str) -> list[str]:
    """Return the names of a conversation and of all branches that stand on it."""
    found = [thread]
    for branch in await tenant.branches(thread):  # each is behind what it stands on
        found += [branch.id] if branch.base in found else []
    return found


async def erase_thread(tenant: Tenant, thread: str) -> None:
    """Erase a conversation with its branches and runs, their forks and children.

    Raises:
        ApiError: 409, one of its runs has not ended.
    """
    for name in await with_branches(tenant, thread):
        await _refuse_open(tenant, name)
    await tenant.erase(thread=thread)


async def _refuse_open(tenant: Tenant, thread: str) -> None:
    if runs := await tenant.runs(thread=thread, status=OPEN, limit=1):
        raise ApiError(
            status=409,
            message=f"run {runs[0].id} of the conversation {thread!r} has not ended; cancel it "
            f"first: POST /v1/responses/resp_{runs[0].id}/cancel",
            type="conflict_error",
            code="run_not_ended",
        )
