"""What is said over MCP, through the official SDK: tools, their results, and what is asked back.

Nothing is kept between two messages, so that any process may answer the next one: a question of a
run is the result of a call ("input required"), which is made once more with the answer. Whoever
speaks an older protocol, or cannot ask its user, gets the question as an error, and answers by a
tool.
"""

from typing import Any

import mcp_types as said
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from crew.errors import CrewError
from crew.graph import Workflow
from crew.mcp import IDEMPOTENCY_KEY
from crew.message import Json
from serving.access.door import Door
from serving.conversations.headers import thread_in_headers
from serving.http.errors import ApiError
from serving.mcp.calls import Call, Result, Waiting
from serving.mcp.forms import form_of, state_for, state_of, value_in, waiting_facts, waiting_text
from serving.mcp.tools import (
    ANSWER_SCHEMA,
    answer_name,
    arguments_schema,
    description_of,
)

__all__ = ["serve_mcp"]

Context = ServerRequestContext[Any, Any]
Outcome = said.CallToolResult | said.InputRequiredResult

_INSTRUCTIONS = "Each tool starts a durable run of a workflow, and returns what that comes to."


async def serve_mcp(request: Request) -> Response:
    """Answer a message of MCP."""
    return _Answer(request)


class _Answer(Response):
    """What the SDK answers to one request."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door: Door = self._request.app.state.door
        manager = StreamableHTTPSessionManager(
            _Speaker(door, self._request).server(),
            stateless=True,
            max_request_body_size=door.max_body_bytes,
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)


class _Speaker:
    """What is said to one caller."""

    def __init__(self, door: Door, request: Request) -> None:
        self._door, self._request = door, request
        # Of several versions the newest: MCP's names have no @.
        self._workflows = {name: it for name, it in door.workflows.items() if "@" not in name}
        self._answer_name = answer_name(self._workflows)

    def server(self) -> Server[Any]:
        """Return what the SDK calls."""
        return Server(
            "crew",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    async def _list_tools(
        self, context: Context, params: said.PaginatedRequestParams | None
    ) -> said.ListToolsResult:
        tools = [self._tool(name, found) for name, found in self._workflows.items()]
        words = (
            "Answer a question that a run has asked, and go on waiting for the run; without a "
            "value, look at the run again."
        )
        answer = said.Tool(
            name=self._answer_name, description=words, input_schema=dict(ANSWER_SCHEMA)
        )
        return said.ListToolsResult(tools=[*tools, answer])

    def _tool(self, name: str, workflow: Workflow) -> said.Tool:
        schema = arguments_schema(workflow, self._door.input_defaults)
        return said.Tool(name=name, description=description_of(workflow), input_schema=schema)

    async def _call_tool(self, context: Context, params: said.CallToolRequestParams) -> Outcome:
        try:
            came_to = await self._come_to(context, params)
        except (ApiError, CrewError) as error:
            return _error(str(error))
        if isinstance(came_to, Result):
            text = said.TextContent(type="text", text=came_to.text)
            return said.CallToolResult(content=[text], structured_content=came_to.structured)
        return self._asked(context, came_to, is_new=not _declined(params.input_responses or {}))

    async def _come_to(
        self, context: Context, params: said.CallToolRequestParams
    ) -> Result | Waiting:
        """Make a call, or one more time with the answers to what was asked.

        Raises:
            ApiError, CrewError: it came to nothing.
            MCPError: there is no such tool.
        """

        async def report(number: int, line: str) -> None:
            await context.session.report_progress(number, message=line)

        caller = self._door.tenant(self._request)
        call = Call(door=self._door, caller=caller, report=report)
        if params.name == self._answer_name:
            return await call.answer(params.arguments or {})
        workflow = self._workflows.get(params.name)
        if workflow is None:
            known = ", ".join((*self._workflows, self._answer_name))
            message = f"there is no tool {params.name!r:.100}; there are: {known}"
            raise MCPError(code=said.INVALID_PARAMS, message=message)
        if params.request_state is not None:
            run = state_of(params.request_state)
            return await call.go_on(run, _answers(params.input_responses or {}))
        headers = self._request.headers
        key: Any = (params.meta or {}).get(IDEMPOTENCY_KEY, headers.get("idempotency-key"))
        thread = thread_in_headers(self._request).name
        return await call.begin(workflow, params.arguments or {}, key=key, thread=thread)

    def _asked(self, context: Context, waiting: Waiting, *, is_new: bool) -> Outcome:
        """Return the questions of a run, for a client that asks its user, or as an error."""
        capabilities = context.session.client_capabilities
        can_ask = capabilities is not None and capabilities.elicitation is not None
        is_modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        if can_ask and is_modern and waiting.questions and is_new:
            requests: dict[str, said.InputRequest] = {
                item.path: said.ElicitRequest(
                    params=said.ElicitRequestFormParams(
                        message=item.question, requested_schema=form_of(item.schema)
                    )
                )
                for item in waiting.questions
            }
            return said.InputRequiredResult(
                input_requests=requests, request_state=state_for(waiting)
            )
        return _error(waiting_text(waiting, self._answer_name), waiting_facts(waiting))


def _answers(responses: said.InputResponses) -> dict[str, Json]:
    """Return the answers that people gave, by question; what they declined stays open."""
    return {
        path: value_in(response.content)
        for path, response in responses.items()
        if isinstance(response, said.ElicitResult) and response.action == "accept"
    }


def _declined(responses: said.InputResponses) -> bool:
    """Return whether somebody was asked, and has not answered: to ask again would be no use."""
    return any(
        isinstance(response, said.ElicitResult) and response.action != "accept"
        for response in responses.values()
    )


def _error(text: str, structured: dict[str, Json] | None = None) -> said.CallToolResult:
    content = said.TextContent(type="text", text=text)
    return said.CallToolResult(content=[content], structured_content=structured, is_error=True)
