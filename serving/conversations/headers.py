"""The conversation that a header names: a client's own, and only where it names one."""

import hashlib
import json
import re
from dataclasses import dataclass

from starlette.requests import Request

from serving.access.door import Door
from serving.access.keys import Key
from serving.conversations.naming import made_at, thread_name

__all__ = ["HeaderThread", "thread_in_headers"]

_FRONT_END = "X-OpenWebUI-Chat-Id"
_HEADERS = ("X-Thread-Id", _FRONT_END)
_USER = "x-openwebui-user-id"
# What a front end sends in the place of an id that it does not have: a template that nobody has
# filled in, the words of programming languages for nothing, and the names of new chats.
_TEMPLATE = re.compile(r"\{\{|\}\}|\$\{|<%|^(\{.*\}|<.*>|\[.*\]|%.*%|\$\w+|:\w+|-1|[0-]+)$")
_NO_IDS = (
    *("", "undefined", "null", "none", "nil", "nan", "na", "true", "false", "string", "id", "uuid"),
    *("default", "local", "temp", "temporary", "new", "newchat", "pending", "unknown", "anonymous"),
    *("chatid", "threadid", "conversationid", "sessionid", "placeholder"),
)


@dataclass(frozen=True, slots=True)
class HeaderThread:
    """What the headers of a request say of its conversation.

    Args:
        name: the conversation's; None if they name none.
        resends: whether who names it there sends all of it with each request.
        refused: a header that holds a placeholder, and what it holds.
    """

    name: str | None = None
    resends: bool = False
    refused: tuple[str, str] | None = None


def thread_in_headers(request: Request) -> HeaderThread:
    """Return the conversation that a request's headers name.

    Ids of front ends are made for their own users: the same one from two callers, by their keys or
    by the user whom the front end names, is two conversations.

    Raises:
        ApiError: 400, one of them can be no name.
    """
    refused = None
    for header in _HEADERS:
        value = request.headers.get(header)
        if value is None:
            continue
        if value and not _is_placeholder(thread_name(header, value)):
            name = _of_caller(request, value, _callers(request, header))
            return HeaderThread(name, resends=header == _FRONT_END)
        refused = refused or (header, value)
    return HeaderThread(refused=refused)


def _is_placeholder(value: str) -> bool:
    text = value.strip().casefold()
    return bool(_TEMPLATE.search(text)) or re.sub(r"[\W_]+", "", text) in _NO_IDS


def _callers(request: Request, header: str) -> list[str]:
    key: Key | None = request.scope.get("key")
    user = request.headers.get(_USER, "") if header == _FRONT_END else ""
    found = [("key", key.name)] if key is not None else []
    found += [("user", user)] if user and not _is_placeholder(user) else []
    return [part for pair in found for part in pair]


def _of_caller(request: Request, name: str, callers: list[str]) -> str:
    door: Door = request.app.state.door
    # A name that was made here cannot be guessed; and one that an answer told may come back.
    if not callers or made_at(door.tenant(request).tenant, name) is not None:
        return name
    mark = hashlib.sha256(json.dumps(callers).encode()).hexdigest()[:12]
    return name if name.endswith(f"~{mark}") else f"{name}~{mark}"
