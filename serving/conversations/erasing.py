"""Erasing a conversation for good."""

from crew.journal import OPEN
from crew.run import Tenant
from serving.http.errors import ApiError

__all__ = ["erase_thread"]


async def erase_thread(tenant: Tenant, thread: str) -> None:
    """Erase a conversation with its runs, their forks and children.

    Raises:
        ApiError: 409, one of its runs has not ended.
    """
    if runs := await tenant.runs(thread=thread, status=OPEN, limit=1):
        raise ApiError(
            status=409,
            message=f"run {runs[0].id} of the conversation {thread!r} has not ended; cancel it "
            f"first: POST /v1/responses/resp_{runs[0].id}/cancel",
            type="conflict_error",
            code="run_not_ended",
        )
    await tenant.erase(thread=thread)
