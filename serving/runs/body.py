"""What requests about runs say."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from crew.budget import Budget
from crew.journal import RunStatus, WhenBusy
from crew.message import Json
from serving.http.fields import Body

__all__ = ["MOST_OFFSET", "AnswerBody", "EventsQuery", "ForkBody", "RunsQuery", "StartBody"]

_MOST = 10**12
"""Of what a budget counts."""
MOST_OFFSET = (1 << 32) - 1
"""Of an event in its run."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters")
    return text


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]


class BudgetBody(Body):
    """What a run may spend; see `crew.budget.Budget`."""

    model_config = ConfigDict(frozen=True, strict=True)
    tokens: int | None = Field(default=None, ge=1, le=_MOST)
    calls: int | None = Field(default=None, ge=1, le=_MOST)
    seconds: float | None = Field(default=None, gt=0, le=_MOST)
    money: float | None = Field(default=None, gt=0, le=_MOST)

    @property
    def budget(self) -> Budget | None:
        given = self.model_dump(exclude_none=True)
        return Budget(**given) if given else None


class StartBody(Body):
    """What a run is started with; `input` is JSON of the workflow's input type."""

    model_config = ConfigDict(frozen=True, strict=True)
    workflow: str
    input: Json = None
    thread: Name | None = None
    when_busy: WhenBusy = "queue"
    budget: BudgetBody | None = None


class AnswerBody(Body):
    """An answer: `key` is the question's key, or its path."""

    model_config = ConfigDict(frozen=True, strict=True)
    key: str
    value: Json


class ForkBody(Body):
    """How a fork differs from its run; see `crew.run.Tenant.fork`."""

    model_config = ConfigDict(frozen=True, strict=True)
    at: int | None = Field(default=None, ge=1, le=MOST_OFFSET)
    live: bool = True
    effects: bool = True


class RunsQuery(BaseModel):
    """Which runs; `before` is the id of the last one that is known already."""

    model_config = ConfigDict(frozen=True)
    status: RunStatus | None = None
    thread: Name | None = None
    limit: int = Field(default=20, ge=1, le=100)
    before: str | None = None


class EventsQuery(BaseModel):
    """Which events; `limit` is a page's, a stream goes on to the run's end."""

    model_config = ConfigDict(frozen=True)
    after: int = Field(default=0, ge=0, le=MOST_OFFSET)
    stream: bool = True
    limit: int = Field(default=1000, ge=1, le=1000)
