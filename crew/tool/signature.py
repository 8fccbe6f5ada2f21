"""What a model must know of a function to call it: its parameters as a JSON schema, its docstring.

Wrapped and partial functions, methods and callable objects have these, too; what a partial has
filled in already is not the model's to give.
"""

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from crew.errors import CrewError, ToolError
from crew.message import Json

__all__ = ["KEY", "Signature", "name_of"]

KEY = "idempotency_key"
"""The parameter that no model fills, but the run."""
_ARGUMENT = re.compile(r"^\s*(\w+)(?:\s*\([^)]*\))?:\s*(.+)$")
_UNFILLABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """The parameters of a function that is to be a tool.

    Args:
        function: what is called.
        name: the tool's, for messages.

    Raises:
        ToolError: a model could not fill them.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._name = name
        self.description, notes = _docstring(function)
        hints = _hints(function, name)
        self.returns = hints.get("return", Any)
        every = _parameters(function, name)
        self.takes_key = KEY in every
        self.context = _context_of(every, hints)
        """The name of the first parameter if that is the context of a run; else empty."""
        self._parameters = tuple(
            each for each in _filled_by_model(function, every) if each.name != self.context
        )
        self._by_position = tuple(
            each.name for each in self._parameters if each.kind is each.POSITIONAL_ONLY
        )
        self._model = self._made(hints, notes)

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of the arguments."""
        schema = self._model.model_json_schema()
        schema.pop("title", None)
        for item in schema.get("properties", {}).values():
            item.pop("title", None)
        return schema

    def read(self, arguments: dict[str, Json]) -> dict[str, Any]:
        """Return a model's arguments as values of their types, by parameter.

        Raises:
            ToolError: they do not validate; the message lets a model repair them.
        """
        try:
            checked = self._model.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(message=_advice(self._name, error), tool=self._name) from error
        fields = zip(self._parameters, self._model.model_fields, strict=True)
        return {each.name: getattr(checked, field) for each, field in fields}

    def apart(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return values as the positional and the keyword arguments of a call."""
        left = dict(values)
        return [left.pop(name) for name in self._by_position], left

    def _made(self, hints: dict[str, Any], notes: dict[str, str]) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for number, each in enumerate(self._parameters):
            self._require_fillable(each, hints)
            default = ... if each.default is each.empty else each.default
            # Under names of its own: a model's fields cannot be called `schema` or `_id`.
            fields[f"argument_{number}"] = (
                hints[each.name],
                Field(default, alias=each.name, description=notes.get(each.name)),
            )
        config = ConfigDict(extra="forbid")
        try:
            made = create_model(f"{self._name}_arguments", __config__=config, **fields)
            made.model_json_schema()
        except (CrewError, PydanticUserError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise self._error(
                f"tool {self._name!r} has no JSON schema: {reason}; use JSON types or models"
            ) from error
        return made

    def _require_fillable(self, parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
        if parameter.kind in _UNFILLABLE:
            raise self._error(
                f"tool {self._name!r} takes *{parameter.name}, which a model cannot fill; name "
                "its parameters"
            )
        if parameter.name not in hints:
            raise self._error(
                f"annotate {parameter.name!r} of tool {self._name!r}: its type tells the model "
                "what to give"
            )

    def _error(self, message: str) -> ToolError:
        return ToolError(message=message, tool=self._name)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, of what a partial calls, or of a callable object's class."""
    target = _beneath(function)
    return str(getattr(target, "__name__", type(target).__name__))


def _beneath(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what has the annotations of a call: a function, or the method of an object's class."""
    target = _beneath(function)
    return target if inspect.isroutine(target) else type(target).__call__


def _parameters(function: Callable[..., Any], name: str) -> typing.Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ToolError(
            message=f"tool {name!r}: {error}; call it in a function of your own that names its "
            "parameters",
            tool=name,
        ) from error


def _filled_by_model(
    function: Callable[..., Any], every: typing.Mapping[str, inspect.Parameter]
) -> Iterator[inspect.Parameter]:
    filled: set[str] = set()
    while isinstance(function, functools.partial):
        filled |= function.keywords.keys()
        function = function.func
    return (each for name, each in every.items() if name != KEY and name not in filled)


def _context_of(parameters: typing.Mapping[str, inspect.Parameter], hints: dict[str, Any]) -> str:
    first = next(iter(parameters), "")
    is_context = getattr(hints.get(first), "is_crew_context", first == "ctx")
    return first if is_context else ""


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(_called(function), include_extras=True)
    except NameError as error:
        raise ToolError(
            message=f"the annotations of tool {name!r} cannot be resolved ({error}); define its "
            "types at the top of the module",
            tool=name,
        ) from error


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring's text before its sections, and what its Args section says of each."""
    # Not that of `object.__call__`, which an undocumented method would have.
    own = inspect.cleandoc(_called(function).__doc__ or "")
    text = own or inspect.getdoc(_beneath(function)) or ""
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
