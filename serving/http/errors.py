"""Errors as the OpenAI API shows them: a status, and a body `{"error": {…}}`."""

from dataclasses import dataclass, field

from crew.errors import (
    AskError,
    CrewError,
    InputInvalid,
    KeyReused,
    RunCancelled,
    RunFailed,
    RunNotFound,
    StoreError,
    ThreadBusy,
)
from crew.message import Json

__all__ = ["ApiError", "from_crew"]


@dataclass(eq=False, kw_only=True)
class ApiError(Exception):
    """A request ends with this status.

    `again` says whether the same request may be sent again by itself. Where it is False the
    answer says so (`x-should-retry`): clients of OpenAI repeat a 409 or a 500 twice unasked, and
    a repeated request is a second run.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    again: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> dict[str, Json]:
        facts = {"type": self.type, "param": self.param, "code": self.code}
        return {"error": {"message": self.message, **facts}}

    @property
    def all_headers(self) -> dict[str, str]:
        return {"x-should-retry": "true" if self.again else "false", **self.headers}


def from_crew(error: CrewError) -> ApiError:
    """Translate an error of the library; what is not the caller's fault is a 500."""
    message = str(error)
    match error:
        case InputInvalid():
            return ApiError(status=400, message=message, param="messages", code="invalid_input")
        case KeyReused():
            return ApiError(status=400, message=message, code="idempotency_key_reused")
        case ThreadBusy():
            return ApiError(status=409, message=message, type="conflict_error", code="thread_busy")
        case AskError():
            code = "not_asked"
            return ApiError(status=409, message=message, type="conflict_error", code=code)
        case RunNotFound():
            return ApiError(status=404, message=message, code="run_not_found")
        case RunCancelled():
            return ApiError(
                status=409, message=message, type="conflict_error", code="run_cancelled"
            )
        case RunFailed(cause_type="BudgetExceeded"):
            return ApiError(
                status=429, message=message, type="insufficient_quota", code="budget_exceeded"
            )
        case RunFailed():
            return ApiError(status=500, message=message, type="server_error", code="run_failed")
        case StoreError():
            return ApiError(
                status=503,
                message=message,
                type="server_error",
                code="store_unavailable",
                again=True,
            )
        case _:
            code = type(error).__name__
            return ApiError(status=500, message=message, type="server_error", code=code)
