"""`@tool`: a function whose signature and docstring are what a model needs to call it."""

import functools
import inspect
import math
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Generic, Literal, Protocol, TypeAlias, get_args, overload

from typing_extensions import ParamSpec, TypeVar

from crew.call.addressee import problem_of
from crew.call.invoke import invoke
from crew.errors import ToolError
from crew.llm import ToolSpec
from crew.message import Json
from crew.source import definition_of
from crew.tool.signature import KEY, Signature, name_of
from crew.value import Codec

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)

Effect = Literal["read", "idempotent", "once"]
Approve: TypeAlias = bool | Callable[[Any], bool | Awaitable[bool]]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What the OpenAI API takes for the name of a function."""
RESERVED = "model"
"""The name under which an agent's calls of its model are recorded, beside those of its tools."""


class Tool(Generic[P, R]):
    """A function that a model may call; calling the object calls the function.

    Args:
        function: synchronous or not, with an annotation for each parameter; a wrapped or partial
            function, a method, or an object that can be called will do.
        effect: what a repeated call does: `read` and `idempotent` ones may be made again after a
            crash; `once` ones, as all are by default, never are by themselves. A function whose
            first parameter is a context is no act, and has none: it is entered again like a node,
            and acts through the context.
        name: by default the function's own.
        timeout: seconds for one attempt. A `read` or `idempotent` tool that takes longer has
            failed, as the model gets to read; of a `once` tool nobody knows then whether it acted.
        retries: how often a call that failed is made again before the model reads why.
        approve: whether a person is asked before a call: always, or where a function of the call's
            arguments says so, as `lambda call: call.cents > 1000`.
        to: the role or the name of the person who is asked; see `Context.ask`.

    Raises:
        ToolError: it cannot be a tool; the message says what to write instead.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        effect: Effect | None = None,
        name: str | None = None,
        timeout: float | None = None,
        retries: int = 0,
        approve: Approve = False,
        to: str | None = None,
    ) -> None:
        self.name = name if name is not None else name_of(function)
        _require(function, self.name, effect or "once", timeout, retries, approve, to)
        self.function = function
        self.timeout = timeout
        self.retries = retries
        self.approve = approve
        self.to = to
        self._given_effect = effect
        self._signature = Signature(function, self.name)
        self.holds_run = bool(self._signature.context)
        """Whether it takes a context, so that it is entered where its run is driven."""
        if self.holds_run:
            _require_of_context(self.name, effect, timeout, retries)
        self.effect: str = "enters" if self.holds_run else effect or "once"
        self.codec = _returned(self._signature.returns, self.name)
        functools.update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"<tool {self.name!r} ({self.effect})>"

    def __call__(self, *arguments: P.args, **options: P.kwargs) -> R:
        return self.function(*arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew on the other side: a model class built at run time does not travel.
        policies = self._given_effect, self.name, self.timeout, self.retries, self.approve, self.to
        return _remake, (self.function, *policies)

    @property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        return ToolSpec(self.name, self._signature.description, self._signature.schema())

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """Return a model's arguments as values of their types, by parameter.

        Raises:
            ToolError: they do not validate; the message lets a model repair them.
        """
        return self._signature.read(arguments)

    async def needs_approval(self, arguments: dict[str, Json]) -> bool:
        """Return whether a person is to be asked before a call with these arguments.

        Raises:
            ToolError: they do not validate.
            Exception: what the function raises that `approve` is.
        """
        if isinstance(self.approve, bool):
            return self.approve
        return bool(await invoke(self.approve, SimpleNamespace(**self.read(arguments))))

    async def invoke(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Json:
        """Call the function with a model's arguments, and return its result as JSON.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
            OutputInvalid: it acted, and its result is not what its annotation says.
        """
        return self.codec.passed_on(await self.act(arguments, idempotency_key=idempotency_key))[0]

    async def enter(self, context: Any, arguments: dict[str, Json]) -> Any:
        """Call a function that takes a context, and return its result as it is.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
        """
        by_position, by_name = self._signature.apart(self.read(arguments))
        return await invoke(self.function, context, *by_position, **by_name)

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        if self.holds_run:  # it may hold agents that hold it
            return self._text, self.function
        return (self._text,)

    @functools.cached_property
    def _text(self) -> str:
        # A start of a run asks for it.
        approve = repr(self.approve) if isinstance(self.approve, bool) else ""
        policies = repr((self.spec, self.effect, self.timeout, self.retries, approve, self.to))
        functions = [each for each in (self.function, self.approve) if callable(each)]
        of_functions = "" if self.holds_run else definition_of(functions, around=self)
        return policies + of_functions

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any:
        """Call the function with a model's arguments, and return its result as it is.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
        """
        by_position, by_name = self._signature.apart(self.read(arguments))
        if self._signature.takes_key:
            by_name[KEY] = idempotency_key
        return await invoke(self.function, *by_position, **by_name)


class Maker(Protocol):
    """What makes a function a tool."""

    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    effect: Effect | None = None,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    approve: Approve = False,
    to: str | None = None,
) -> Maker: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    effect: Effect | None = None,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    approve: Approve = False,
    to: str | None = None,
) -> Any:
    """Make a function a tool: `@tool`, or `@tool(effect="read")`; see `Tool`."""
    make = functools.partial(
        Tool, effect=effect, name=name, timeout=timeout, retries=retries, approve=approve, to=to
    )
    return make if function is None else make(function)


def _remake(
    function: Callable[..., Any],
    effect: Effect | None,
    name: str,
    timeout: float | None,
    retries: int,
    approve: Approve,
    to: str | None,
) -> Tool:
    return Tool(
        function,
        effect=effect,
        name=name,
        timeout=timeout,
        retries=retries,
        approve=approve,
        to=to,
    )


def _require(
    function: Callable[..., Any],
    name: str,
    effect: str,
    timeout: float | None,
    retries: int,
    approve: Approve,
    to: str | None,
) -> None:
    """Refuse what cannot be a tool.

    Raises:
        ToolError: it cannot.
    """
    for problem in (
        _problem_of_name(name),
        _problem_of_function(function),
        _problem_of_policies(effect, timeout, retries, approve),
        problem_of(to),
        "to= says who approves; give approve= too" if to is not None and approve is False else "",
    ):
        if problem:
            raise ToolError(message=f"tool {name!r}: {problem}", tool=name)


def _require_of_context(name: str, effect: object, timeout: object, retries: object) -> None:
    """Refuse what a tool cannot have that is entered again like a node.

    Raises:
        ToolError: it has it.
    """
    given = {"effect": effect, "timeout": timeout, "retries": retries or None}
    ways = {
        "effect": "act by ctx.effect(…) in it",
        "timeout": "use `async with ctx.timeout(…)` in it",
        "retries": "use ctx.run(…, retry=…) in it",
    }
    for what, value in given.items():
        if value is not None:
            raise ToolError(
                message=f"tool {name!r} takes a context, so that it is entered again after a crash "
                f"and no act by itself: leave {what}= out, and {ways[what]}",
                tool=name,
            )


def _problem_of_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return (
            "its name must be 1 to 64 of the characters a-z, A-Z, 0-9, _ and -, as the API of "
            "models demands; give it one with name="
        )
    if name == RESERVED:
        return "this name stands for the agent's own model in its run; give it another with name="
    return ""


def _problem_of_function(function: object) -> str:
    if not callable(function):
        return f"{function!r:.200} is no function; give the function itself"
    if inspect.isclass(function):
        return "it is a class; give an object of it, or one of its methods"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "it yields; return a list, which the model gets to read as a whole"
    return ""


def _problem_of_policies(effect: object, timeout: object, retries: object, approve: object) -> str:
    if effect not in get_args(Effect):
        return f"effect must be 'read', 'idempotent' or 'once', not {effect!r}"
    if timeout is not None and not _is_seconds(timeout):
        return f"timeout is a number of seconds above 0, not {timeout!r}"
    if type(retries) is not int or retries < 0:
        return f"retries is a whole number, 0 or more, not {retries!r}"
    if retries and effect == "once":
        return (
            "a tool that acts once is never tried again by itself; leave retries out, or declare "
            "effect='idempotent' if a second call does no more than the first"
        )
    if not isinstance(approve, bool) and not callable(approve):
        return f"approve is True, or a function of the call's arguments, not {approve!r:.200}"
    return ""


def _is_seconds(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0


def _returned(annotation: Any, name: str) -> Codec:
    """Return what encodes the results of a tool, for the model to read.

    Raises:
        ToolError: it returns bytes, which no model reads.
    """
    if annotation in (bytes, bytearray, memoryview):
        raise ToolError(
            message=f"tool {name!r} returns {annotation.__name__}, which a model cannot read; "
            "return text, or an Image or a File of them",
            tool=name,
        )
    return Codec(annotation, where=f"what tool {name!r} returns", only_read=True)
