"""The open questions of all runs of a tenant, as far as they are for who calls."""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from crew.message import Json
from crew.run import Asked
from crew.value import json_text
from serving.access.addressed import IsFor, question_data
from serving.access.door import Door
from serving.http.body import read_query

__all__ = ["QuestionsQuery", "list_questions"]


class QuestionsQuery(BaseModel):
    """Which questions; `before` is the id of the last one that is known already."""

    model_config = ConfigDict(frozen=True)
    limit: int = Field(default=20, ge=1, le=100)
    before: str | None = None


async def list_questions(request: Request) -> Response:
    """Open questions that the caller may answer, those of the newest runs first."""
    door: Door = request.app.state.door
    query, caller = read_query(request, QuestionsQuery), door.tenant(request)
    found = await caller.questions(to=caller.addresses, before=query.before, limit=query.limit + 1)
    data = [_shape(asked, caller.may_answer) for asked in found[: query.limit]]
    page = {"object": "list", "data": data, "has_more": len(found) > query.limit}
    return Response(json_text(page), media_type="application/json")


def _shape(asked: Asked, is_mine: IsFor) -> dict[str, Json]:
    run, question = asked.run, asked.question
    return {
        "id": asked.id,
        "object": "question",
        "run": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "thread": run.thread,
        "asked_at": int(question.at),
        **question_data(question, is_mine),
    }
