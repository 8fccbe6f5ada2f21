"""An exception's record, and the copy that is made of it.

A copy is made as pickle would, but of data: `__new__` with the recorded arguments, the `__init__`
of the nearest class of Python's own, then the attributes; none of the user's `__init__` runs.
"""

from collections.abc import Iterable
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, NoReturn

from pydantic import ValidationError

from crew.errors import NoOutput, RunFailed
from crew.event import Failure
from crew.failure.classes import built_in_of, error_bases, error_found, reference
from crew.failure.data import Packer, Room, Unpacker
from crew.failure.schema import problems, validation_error
from crew.failure.trace import RecordedTraceback, message_of, safe_text, traceback_of
from crew.message import Json

MOST_NESTED = 4
"""How deep errors in errors are recorded: their causes, the parts of a group."""
NESTED_CHARACTERS = 500
"""What is kept of the message of an error within another one."""
MOST_PARTS = 64
"""How many errors of a group are recorded."""
_FORM_CHARACTERS = 200
"""What an error takes at least."""
_STANDS_FOR = "__recorded__"
"""Where a copy of another class than the original's keeps the original's record."""
_ARGS = BaseException.__dict__["args"]


def failure_of(error: BaseException, path: str) -> Failure:
    """Return an error as it is recorded; that of a run keeps the path at which it came up."""
    where = error.path if isinstance(error, RunFailed) else path
    form = _form(error, 0, Room())
    message = str(form.get("message") or message_of(error))
    name = form["class"][1].rpartition(".")[2]
    return Failure(name, message, where or path, traceback_of(error), form)


def error_of(failure: Failure, *near: object) -> BaseException:
    """Return a recorded error, to be raised, live as on resume and replay.

    Its `__cause__`, or that of its first cause, is a `RecordedTraceback`. Where its class is not
    found it is of the nearest base that is, with a note that names the class.

    Args:
        failure: the record.
        near: functions whose globals and closures may hold its class.
    """
    if not failure.form:
        return RunFailed(path=failure.path, cause_type=failure.type, cause_message=failure.message)
    error = _copy(failure.form, near, failure.message)
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    _set_cause(first, RecordedTraceback(failure.traceback))
    return error


def raise_again(failure: Failure, *near: object) -> NoReturn:
    """Raise the copy of a recorded error, also where the original was just caught."""
    raise error_of(failure, *near)


def run_failed(run: str, failure: Failure, *near: object) -> RunFailed:
    """Return what whoever waits for a failed run gets; its cause is the user's own error."""
    kind = NoOutput if failure.type == NoOutput.__name__ else RunFailed
    error = kind(
        run=run,
        path=failure.path,
        cause_type=failure.type,
        cause_message=failure.message,
        traceback=failure.traceback,
    )
    if failure.form:
        error.__cause__ = error_of(failure, *near)
    return error


def _form(error: BaseException, depth: int, room: Room) -> dict[str, Json]:
    known = error.__dict__.get(_STANDS_FOR)
    if isinstance(known, dict):
        return known
    kind = type(error)
    form: dict[str, Json] = {"class": reference(kind), "bases": error_bases(kind)}
    if depth:
        form["message"] = safe_text(error, NESTED_CHARACTERS)
        room.take(len(form["message"]))
    room.take(_FORM_CHARACTERS)
    if depth > MOST_NESTED or room.left <= 0:
        return form
    inner = list[BaseException]()
    if isinstance(error, BaseExceptionGroup):
        inner = list(error.exceptions[:MOST_PARTS])
        form["title"] = safe_text(error.message)
        form["parts"] = [_form(part, depth + 1, room) for part in inner]
    packer = Packer(room, lambda other: _form_within(other, inner, depth, room))
    if isinstance(error, ValidationError):
        title, listed = problems(error)
        return form | {"problems": [title, [[packer.whole(i) for i in item] for item in listed]]}
    form["args"] = [packer.whole(item) for item in _ARGS.__get__(error)]
    if attributes := {name: packer.whole(item) for name, item in _attributes(error).items()}:
        form["attributes"] = attributes
    cause = error.__cause__
    if cause is not None and not isinstance(cause, RecordedTraceback):
        form["cause"] = _form(cause, depth + 1, room)
    return form


def _form_within(
    error: BaseException, inner: list[BaseException], depth: int, room: Room
) -> dict[str, Json]:
    """Return the record of an error that another one holds; a group's part is named, not told."""
    for number, part in enumerate(inner):
        if part is error:
            return {"part": number}
    return _form(error, depth + 1, room)


def _attributes(error: BaseException) -> dict[str, object]:
    """Return what an error holds besides its arguments: in slots, in C, and in its `__dict__`."""
    plain = _blank(built_in_of(type(error)), _ARGS.__get__(error))
    found = dict[str, object]()
    for name, member in _members(type(error)).items():
        value = _read(member, error)
        if value is not _MISSING and value is not _read(member, plain):
            found[name] = value
    return found | {name: item for name, item in error.__dict__.items() if type(name) is str}


_MISSING = object()


def _members(kind: type[BaseException]) -> dict[str, Any]:
    """Return the descriptors of a class's slots, and of what Python's own classes hold in C."""
    found = dict[str, Any]()
    for base in kind.__mro__:
        if base in (BaseException, BaseExceptionGroup, object):
            continue
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType | GetSetDescriptorType):
                found.setdefault(name, member)
    return {name: item for name, item in found.items() if not name.startswith("__")}


def _read(member: Any, error: BaseException | None) -> object:
    try:
        return _MISSING if error is None else member.__get__(error)
    except (AttributeError, TypeError, ValueError):  # nothing was set, or it is of another class
        return _MISSING


def _blank(
    kind: type[BaseException], args: tuple[Any, ...], group: tuple[str, list[Any]] | None = None
) -> BaseException:
    """Return an error of a class with its arguments, before its attributes are set."""
    built_in = built_in_of(kind)
    first = args if group is None else group
    error: BaseException | None = None
    with suppress(Exception):  # a `__new__` of the user's may want other arguments
        error = kind.__new__(kind, *first)
    if not isinstance(error, kind):
        if built_in in (BaseExceptionGroup, ExceptionGroup) and group is None:
            return Exception(*args)
        error = built_in.__new__(kind, *first)
    with suppress(Exception):  # they need not be what Python's own class takes
        built_in.__init__(error, *args)
    _ARGS.__set__(error, args)
    return error


def _copy(form: dict[str, Any], near: Iterable[object], message: str = "") -> BaseException:
    wanted = (form["class"], *form["bases"])
    found = ((names, error_found(names, near)) for names in wanted)
    names, kind = next(
        ((names, kind) for names, kind in found if kind is not None), (["", ""], Exception)
    )
    message = message or form.get("message", "")
    if "problems" in form:
        unpacker = Unpacker(lambda data: _copy(data, near), near)
        return validation_error(unpacker.value(form["problems"]), message)
    try:
        error = _filled(kind, form, near)
    except Exception:  # noqa: BLE001  a class that is not what it was may refuse its own record
        error, names = Exception(message), ["", ""]
    if "cause" in form:
        _set_cause(error, _copy(form["cause"], near))
    if names != form["class"] or "args" not in form:
        error.__dict__[_STANDS_FOR] = form | {"message": message}
        module, name = form["class"]
        error.add_note(f"recorded as {module}.{name}: {message}")
    return error


def _filled(
    kind: type[BaseException], form: dict[str, Any], near: Iterable[object]
) -> BaseException:
    parts = [_copy(part, near) for part in form.get("parts", ())]

    def other(data: dict[str, Any]) -> BaseException:
        return parts[data["part"]] if "part" in data else _copy(data, near)

    unpacker = Unpacker(other, near)
    args = tuple(unpacker.value(form.get("args", [])))
    error = _blank(kind, args, (form["title"], parts) if parts else None)
    members = _members(type(error))
    for name, data in form.get("attributes", {}).items():
        value = unpacker.value(data)
        if name in members:
            with suppress(AttributeError, TypeError, ValueError):  # C may take no placeholder
                members[name].__set__(error, value)
        else:
            error.__dict__[name] = value
    return error


def _set_cause(error: BaseException, cause: BaseException) -> None:
    # A frozen dataclass that is an error refuses `error.__cause__ = …`.
    BaseException.__setattr__(error, "__cause__", cause)
