"""`MCP`: a server whose tools an agent may call, and what its user says of them."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import Any, ClassVar, get_args

from crew.call.addressee import problem_of
from crew.errors import GraphError
from crew.source import definition_of
from crew.tool.definition import Approve, Effect

__all__ = ["IDEMPOTENCY_KEY", "MCP"]

IDEMPOTENCY_KEY = "crew/idempotency-key"
"""Where the `_meta` of a request holds what all attempts of one call have in common."""
_PREFIX = r"[a-zA-Z0-9_-]{0,32}"


class MCP:
    """A server of the Model Context Protocol: `MCP("npx", "-y", "server")`, `MCP("https://…")`.

    A definition, as an agent is: its process or connection belongs to the process in which agents
    work, is opened by the first task that needs it, and anew if the server is gone.

    Args:
        target: the URL of a server (streamable HTTP), or the command that starts one, which talks
            over its standard input and output; or a server of the official SDK in this process.
        arguments: those of the command.
        include: the names of the tools that are wanted, as the server gives them; by default all.
        prefix: what the names begin with that the model calls, as `github` for `github_search`.
        effect: what a repeated call does, of all tools or by their names at the server; one that
            is not named acts once. See `Tool`.
        trust_hints: whether the server's own word (readOnlyHint, idempotentHint) is taken for what
            `effect` does not name.
        approve: whether a person is asked before a call, of all tools or by their names at the
            server. See `Tool`.
        to: the role or the name of the person who is asked; see `Context.ask`.
        timeout: seconds for the connection, and for each call.
        env: what the command's environment holds beside PATH, HOME and the like.
        headers: what is sent with each request to a URL, such as `Authorization`. What stands in
            these two is in no journal, and in no text about the server.

    Raises:
        GraphError: it cannot be one; the message says what to write instead.
    """

    is_mcp_server: ClassVar[bool] = True
    """By this an agent knows it among its tools."""

    def __init__(
        self,
        target: object,
        *arguments: str,
        include: Sequence[str] | None = None,
        prefix: str = "",
        effect: Effect | Mapping[str, Effect] | None = None,
        trust_hints: bool = False,
        approve: Approve | Mapping[str, Approve] = False,
        to: str | None = None,
        timeout: float = 60.0,
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.arguments = arguments
        self.include = None if include is None else tuple(include)
        self.prefix = prefix
        self.effects = {} if effect is None else effect
        self.trust_hints = trust_hints
        self.approve = approve
        self.to = to
        self.timeout = timeout
        self.env = dict(env or {})
        self.headers = dict(headers or {})
        for problem in (_of_target(self), _of_policies(self, include), _of_values(self)):
            if problem:
                raise GraphError(message=f"MCP({target!r:.100}, …): {problem}")

    def __repr__(self) -> str:
        return f"<MCP {self.label!r}>"

    @property
    def is_url(self) -> bool:
        """Whether it is reached over HTTP."""
        return isinstance(self.target, str) and self.target.startswith(("http://", "https://"))

    @cached_property
    def label(self) -> str:
        """Which server it is, for people and models: without what may be a secret."""
        if not isinstance(self.target, str):
            return str(getattr(self.target, "name", type(self.target).__name__))
        if self.is_url:
            from urllib.parse import urlsplit  # an agent without a server need not load it

            url = urlsplit(self.target)
            return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
        named = (each for each in self.arguments if not each.startswith("-"))
        return " ".join([PurePath(self.target).name, *list(named)[:1]])

    @cached_property
    def key(self) -> str:
        """What tells its connection from those to others; a digest, since it is of secrets, too."""
        target = self.target if isinstance(self.target, str) else id(self.target)
        made_of = (target, self.arguments, sorted(self.env.items()), sorted(self.headers.items()))
        return hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]

    def effect_of(self, tool: str, hint: str) -> str:
        """Return what a repeated call of a tool does.

        Args:
            tool: its name at the server.
            hint: what the server says of that; empty if nothing.
        """
        if isinstance(self.effects, str):
            return self.effects
        return self.effects.get(tool) or (self.trust_hints and hint) or "once"

    def approve_of(self, tool: str) -> Approve:
        """Return whether a person is asked before a call of a tool, by its name at the server."""
        if isinstance(self.approve, Mapping):
            return self.approve.get(tool, False)
        return self.approve

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return (self._text,)

    @cached_property
    def _text(self) -> str:
        server = self.key if isinstance(self.target, str) else self.label
        approvals = self.approve
        every = list(approvals.values()) if isinstance(approvals, Mapping) else [approvals]
        of_functions = definition_of([each for each in every if callable(each)], around=self)
        asked = sorted(approvals) if isinstance(approvals, Mapping) else isinstance(approvals, bool)
        said = [each for each in every if isinstance(each, bool)]
        policies = (
            self.include,
            self.prefix,
            self.effects,
            self.trust_hints,
            self.timeout,
            self.to,
        )
        return repr((server, policies, asked, said)) + of_functions


def _of_target(server: MCP) -> str:
    if isinstance(server.target, str) and not server.target.strip():
        return "give a command, as MCP('npx', '-y', 'server'), or the URL of a server"
    if not all(isinstance(each, str) for each in server.arguments):
        return "the arguments of its command are texts"
    if not isinstance(server.target, str) and not hasattr(server.target, "name"):
        return "give a command, the URL of a server, or a server of the SDK in this process"
    is_command = isinstance(server.target, str) and not server.is_url
    if server.arguments and not is_command:
        return "only a command has arguments; leave them out"
    if server.env and not is_command:
        return "env= is for a command; a URL has headers="
    if server.headers and not server.is_url:
        return "headers= is for a URL; a command has env="
    return ""


def _of_policies(server: MCP, include: object) -> str:
    if isinstance(include, str):
        return f"include= is a list of names: [{include!r}]"
    if not isinstance(server.prefix, str) or not re.fullmatch(_PREFIX, server.prefix):
        return f"prefix= is up to 32 of a-z, A-Z, 0-9, _ and -, not {server.prefix!r:.100}"
    effects = server.effects
    every = effects.values() if isinstance(effects, Mapping) else [effects]
    if wrong := [each for each in every if each not in get_args(Effect)]:
        return f"effect must be 'read', 'idempotent' or 'once', not {wrong[0]!r:.100}"
    approvals = server.approve
    asked = approvals.values() if isinstance(approvals, Mapping) else [approvals]
    if wrong := [each for each in asked if not isinstance(each, bool) and not callable(each)]:
        return f"approve is True, or a function of the call's arguments, not {wrong[0]!r:.100}"
    return problem_of(server.to)


def _of_values(server: MCP) -> str:
    seconds = server.timeout
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or seconds <= 0:
        return f"timeout is a number of seconds above 0, not {seconds!r}"
    for what, given in (("env", server.env), ("headers", server.headers)):
        if not all(isinstance(name, str) and isinstance(given[name], str) for name in given):
            return f"{what}= holds texts by name"
    return ""
