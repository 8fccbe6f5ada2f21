"""What a step changes of its run's shared state, and the state as it is read and checked."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, get_origin

from pydantic import BaseModel, ValidationError

from crew.define import frozen
from crew.errors import GraphError, OutputInvalid, Unreadable
from crew.graph.node import Append
from crew.message import Json
from crew.value import Codec, describe, difference


class Patch:
    """The changes of one step; they take effect with its completion.

    `data` are the fields, encoded; of one with an `Append()` reducer, the new items.
    """

    def __init__(self, state: BaseModel) -> None:
        self.data: dict[str, Json] = {}
        self._model = type(state)
        self._patched = state

    def add(self, changes: Mapping[str, object]) -> None:
        """Add changes to those that were made before, all of them or none.

        Raises:
            OutputInvalid: a value does not validate, or the state as a whole does not with it.
            GraphError: the state has no such field.
        """
        fields = _fields(self._model)
        new: dict[str, tuple[Json, Any]] = {}
        for name, value in changes.items():
            if name not in fields:
                raise GraphError(message=f"{self._model.__name__} has no field {name!r}")
            new[name] = fields[name].codec.passed_on(value)
        whole = {
            name: [*getattr(self._patched, name), *value] if fields[name].appends else value
            for name, (_, value) in new.items()
        }
        self._patched = self._checked(whole)
        for name, (stored, _) in new.items():
            before = self.data.get(name, []) if fields[name].appends else None
            self.data[name] = stored if before is None else [*before, *stored]

    def _checked(self, whole: dict[str, Any]) -> BaseModel:
        """Return the state with fields changed, as whoever reads it will see it."""
        held = {name: getattr(self._patched, name) for name in self._model.model_fields}
        try:
            made = self._model.model_validate(held | whole, by_name=True, by_alias=False)
        except ValidationError as error:
            raise OutputInvalid(
                message=f"with this patch, the state would be no valid {self._model.__name__}: "
                f"{_first(error)}",
            ) from error
        for name, value in whole.items():
            if found := difference(value, getattr(made, name)):
                raise OutputInvalid(
                    message=f"state field {name!r} would not be kept as it was given, since "
                    f"{self._model.__name__} changes it: {found}"
                )
        return made


def read_state(model: type[BaseModel], shared: Mapping[str, Json]) -> BaseModel:
    """Return a run's state, of which `shared` are the fields that were patched.

    Raises:
        Unreadable: a field was stored by other code, and cannot be read by this one.
    """
    fields = _fields(model)
    if lost := next((name for name in shared if name not in fields), None):
        raise _unreadable(model, dict(shared), f"{lost} is no part of it any more")
    values = {name: fields[name].codec.read_back(stored) for name, stored in shared.items()}
    for name in values:
        if fields[name].appends:
            start = model.model_fields[name].get_default(call_default_factory=True)
            values[name] = [*start, *values[name]]
    try:
        return model.model_validate(values, by_name=True, by_alias=False)
    except ValidationError as error:
        raise _unreadable(model, dict(shared), _first(error)) from error


def check_state(workflow: str, model: type[BaseModel]) -> None:
    """Check that a model can be a workflow's state.

    Raises:
        GraphError: it is no model, cannot start empty, or has a field that cannot be stored.
    """
    where = f"the state of workflow {workflow!r}"
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise GraphError(message=f"{where} must be a pydantic model, not {describe(model)}")
    for name, field in model.model_fields.items():
        if field.is_required():
            raise GraphError(
                message=f"{where}: {model.__name__}.{name} has no default, and a run starts with "
                f"none of the state set; write `{name}: {describe(field.annotation)} = …`"
            )
    for name, field in _fields(model).items():
        if field.appends and get_origin(field.codec.annotation) is not list:
            raise GraphError(
                message=f"{where}: Append() is for lists, and {model.__name__}.{name} is "
                f"{describe(field.codec.annotation)}; write list[…]"
            )
    try:
        model()
    except ValidationError as error:
        raise GraphError(
            message=f"{where}: {model.__name__}() does not validate, and that is how a run starts: "
            f"{_first(error)}"
        ) from error


@frozen
class _Field:
    codec: Codec
    appends: bool


@functools.lru_cache(maxsize=256)
def _fields(model: type[BaseModel]) -> dict[str, _Field]:
    """Return how the fields of a state are stored, with all that their annotations say of them.

    Of a list that is added to, what is said of its length holds for the whole, not for new items.
    """
    fields = {}
    for name, info in model.model_fields.items():
        appends = any(isinstance(item, Append) for item in info.metadata)
        annotation: Any = info.annotation
        if info.metadata and not appends:
            annotation = Annotated[(annotation, *info.metadata)]
        codec = Codec(annotation, where=f"state field {model.__name__}.{name}")
        fields[name] = _Field(codec, appends)
    return fields


def _unreadable(model: type[BaseModel], shared: dict[str, Json], reason: str) -> Unreadable:
    return Unreadable(
        where="its state", recorded=f"{shared!r:.200}", asked=model.__name__, reason=reason
    )


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in item["loc"])
    return f"{place}: {item['msg']}" if place else item["msg"]
