"""`@tool`: a function whose signature and docstring are what a model needs to call it."""

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from crew.call.invoke import invoke
from crew.errors import CrewError, ToolError
from crew.llm import ToolSpec
from crew.message import Json
from crew.value import Codec

Effect = Literal["read", "idempotent", "once"]
_KEY = "idempotency_key"
_ARGUMENT = re.compile(r"^\s*(\w+)(?:\s*\([^)]*\))?:\s*(.+)$")


class Tool:
    """A function that a model may call; calling the object calls the function.

    Args:
        function: synchronous or not, with an annotation for each parameter.
        effect: what a repeated call does: `read` and `idempotent` ones may be made again after a
            crash; `once` ones never are by themselves. One whose first parameter is a context is
            no act: it is entered again like a node, and acts through the context.
        name: by default the function's own.

    Raises:
        ToolError: the signature has no JSON schema; or it takes a context, and has an effect.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        effect: Effect | None = None,
        name: str | None = None,
    ) -> None:
        self.function = function
        self.name = name or function.__name__
        self.description, notes = _docstring(function)
        hints = _hints(function, self.name)
        self._takes_key = _KEY in inspect.signature(function).parameters
        self.context = _context_of(function, hints)
        if self.context and effect is not None:
            raise ToolError(
                message=f"tool {self.name!r} takes a context, so that it is entered again after a "
                "crash and no act by itself: leave effect= out, and act by ctx.effect(…) in it",
                tool=self.name,
            )
        self.given_effect = effect
        self.effect: str = "enters" if self.context else effect or "once"
        self._arguments = _arguments(self.name, function, hints, notes, self.context)
        where = f"what tool {self.name!r} returns"
        self.codec = Codec(hints.get("return", Any), where=where, only_read=True)
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<tool {self.name!r} ({self.effect})>"

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.function(*arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew on the other side: a model class built at run time does not travel.
        return _remake, (self.function, self.given_effect, self.name)

    @property
    def spec(self) -> ToolSpec:
        """The tool as a model sees it."""
        schema = self._arguments.model_json_schema()
        schema.pop("title", None)
        for item in schema.get("properties", {}).values():
            item.pop("title", None)
        return ToolSpec(self.name, self.description, schema)

    def defined_by(self) -> tuple[Any, ...]:
        """Return what it is made of; see `crew.source.definition_of`."""
        return repr(self.spec), self.function

    async def invoke(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Json:
        """Call the function with a model's arguments, and return its result as JSON.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
            OutputInvalid: it acted, and its result is not what its annotation says.
        """
        return self.codec.passed_on(await self.act(arguments, idempotency_key=idempotency_key))[0]

    async def act(self, arguments: dict[str, Json], *, idempotency_key: str = "") -> Any:
        """Call the function with a model's arguments, and return its result as it is.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
        """
        values = self._checked(arguments)
        if self._takes_key:
            values[_KEY] = idempotency_key
        return await invoke(self.function, **values)

    @property
    def holds_run(self) -> bool:
        """Whether it takes a context, so that it is entered where its run is driven."""
        return bool(self.context)

    async def enter(self, context: Any, arguments: dict[str, Json]) -> Any:
        """Call a function that takes a context, and return its result as it is.

        Raises:
            ToolError: the arguments do not validate; the message lets a model repair them.
        """
        return await invoke(self.function, context, **self._checked(arguments))

    def _checked(self, arguments: dict[str, Json]) -> dict[str, Any]:
        try:
            checked = self._arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(message=_advice(self.name, error), tool=self.name) from error
        return {name: getattr(checked, name) for name in self._arguments.model_fields}


@overload
def tool(function: Callable[..., Any]) -> Tool: ...
@overload
def tool(*, effect: Effect | None = None, name: str | None = None) -> Callable[..., Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    effect: Effect | None = None,
    name: str | None = None,
) -> Any:
    """Make a function a tool: `@tool`, or `@tool(effect="read")`; see `Tool`."""
    if function is not None:
        return Tool(function, effect=effect, name=name)
    return functools.partial(Tool, effect=effect, name=name)


def _remake(function: Callable[..., Any], effect: Effect | None, name: str) -> Tool:
    return Tool(function, effect=effect, name=name)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ToolError(
            message=f"the annotations of tool {name!r} cannot be resolved ({error}); define its "
            "types at the top of the module",
            tool=name,
        ) from error


def _context_of(function: Callable[..., Any], hints: dict[str, Any]) -> str:
    """Return the name of the first parameter if that is a context; empty if it is not."""
    first = next(iter(inspect.signature(function).parameters), "")
    is_context = getattr(hints.get(first), "is_crew_context", first == "ctx")
    return first if is_context else ""


def _arguments(
    name: str,
    function: Callable[..., Any],
    hints: dict[str, Any],
    notes: dict[str, str],
    context: str,
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in (_KEY, context):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ToolError(
                message=f"tool {name!r} takes *{parameter.name}, which a model cannot fill; name "
                "its parameters",
                tool=name,
            )
        if parameter.name not in hints:
            raise ToolError(
                message=f"annotate {parameter.name!r} of tool {name!r}: its type tells the model "
                "what to give",
                tool=name,
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (
            hints[parameter.name],
            Field(default, description=notes.get(parameter.name)),
        )
    try:
        made = create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
        made.model_json_schema()
    except (CrewError, PydanticUserError, TypeError, ValueError) as error:
        raise ToolError(
            message=f"tool {name!r} has no JSON schema: {str(error).splitlines()[0]}; use JSON "
            "types or models",
            tool=name,
        ) from error
    return made


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring's text before its sections, and what its Args section says of each."""
    text = inspect.getdoc(function) or ""
    before, _, after = text.partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", after)[0]
    notes: dict[str, str] = {}
    last = ""
    for line in section.splitlines():
        if (found := _ARGUMENT.match(line)) is not None:
            last = found[1]
            notes[last] = found[2].strip()
        elif last and line.strip():
            notes[last] += f" {line.strip()}"
    return re.split(r"\n(?:Returns|Raises):\n", before)[0].strip(), notes


def _advice(name: str, error: ValidationError) -> str:
    problems = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
    return f"the arguments of tool {name!r} do not fit: {problems}"
