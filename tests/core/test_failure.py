"""What comes back of an error that was recorded."""

import asyncio
import dataclasses
import functools
import json
import pickle
import socket
import sys
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from crew import tool
from crew.errors import BudgetExceeded, ModelError, RunFailed, ToolError
from crew.event import Failure, failure_data, failure_from
from crew.failure import Placeholder, RecordedTraceback, error_of, failure_of, run_failed


class Plain(Exception):
    """No code of its own."""


class Wanting(Exception):
    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class Silent(Exception):
    """One whose `__init__` tells no base."""

    def __init__(self, *, facts):
        self.facts = facts

    def __str__(self):
        return f"facts: {self.facts!r}"


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        super().__init__("slotted", code)
        self.code = code


class Private(Exception):
    __slots__ = ("__secret",)

    def __init__(self, secret):
        super().__init__()
        self.__secret = secret

    def __str__(self):
        return f"private {self.__secret!r}"


@dataclasses.dataclass
class Data(Exception):
    code: object
    text: str = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen(Exception):
    code: object


class Disk(OSError):
    def __init__(self, place):
        super().__init__(28, "no space", place)
        self.place = place


class QuietDisk(OSError):
    def __init__(self, *, place):
        self.place = place


class Text(UnicodeDecodeError):
    def __init__(self, body):
        super().__init__("utf-8", body, 0, 1, "mine")


class Missing(KeyError):
    def __init__(self, key):
        super().__init__(key)
        self.key = key


class Stop(StopIteration):
    pass


class Made(Exception):
    def __new__(cls, first, second):
        return super().__new__(cls, first)

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


class Group(ExceptionGroup):
    def __new__(cls, errors, code):
        return super().__new__(cls, f"code {code}", errors)

    def __init__(self, errors, code):
        self.code = code

    def derive(self, errors):
        return Group(errors, self.code)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Colour(Enum):
    RED = 1


class Model(BaseModel):
    n: int = Field(default=0, alias="N")


@dataclasses.dataclass(frozen=True)
class Pair:
    a: object
    b: object


class Outer:
    class Inner(Exception):
        pass


def kept(error):
    """Return the error as another process makes it: stored as JSON, read, and made again."""
    stored = json.loads(json.dumps(failure_data(failure_of(error, "n[0]"))))
    failure = failure_from(stored)
    assert pickle.loads(pickle.dumps(failure)) == failure
    return error_of(failure)


def shape(value):
    """Return what two errors, or values, have to share."""
    if isinstance(value, BaseExceptionGroup):
        parts = [shape(part) for part in value.exceptions]
        return type(value), value.message, parts, shape(vars(value))
    if isinstance(value, BaseException):
        slots = {
            name: getattr(value, name)
            for kind in type(value).__mro__
            for name in getattr(kind, "__slots__", ())
            if hasattr(value, name)
        }
        return type(value), shape(value.args), shape(vars(value)), shape(slots), str(value)
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    if isinstance(value, dict):
        return [(shape(key), shape(item)) for key, item in value.items()]
    return type(value), repr(value) if isinstance(value, float | Decimal | complex) else value


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.decimals()
    | st.uuids()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(ZoneInfo("Europe/Berlin")))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.complex_numbers()
    | st.sampled_from(
        [Colour.RED, HTTPStatus.NOT_FOUND, Path("/a/b"), Model(N=3), Pair(1, (2,)), bytearray(b"x")]
    )
)
keys = st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.text(max_size=3))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=1)
        | st.sets(st.integers() | st.binary(max_size=3), max_size=1)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def errors(draw):
    """Draw an error of one of many makes, some of its attributes, and its notes."""
    value, text = draw(values), draw(st.text(max_size=10))
    error = draw(
        st.sampled_from(
            [
                lambda: Plain(value, text),
                Plain,
                lambda: Wanting(value, reason=text),
                lambda: Silent(facts=value),
                lambda: Slotted(value),
                lambda: Private(value),
                lambda: Data(value, text),
                lambda: Data(code=value),
                lambda: Frozen(code=value),
                lambda: Disk(text),
                lambda: QuietDisk(place=value),
                lambda: Text(b"\xff" + text.encode("utf-8", "surrogatepass")),
                lambda: Missing(text),
                lambda: Stop(value),
                lambda: Made(text, value),
                lambda: Outer.Inner(value),
                lambda: ValueError(value),
                lambda: KeyError(text),
                lambda: OSError(2, text, "file"),
                lambda: OSError(text),
                lambda: ImportError(text, name=text, path="p"),
                lambda: SyntaxError(text, ("f.py", 3, 1, "x =")),
                lambda: UnicodeEncodeError("ascii", "é", 0, 1, text),
                lambda: StopIteration(value),
                lambda: SystemExit(3),
                lambda: BudgetExceeded(run="r", path="p", needed=3, left=1),
                lambda: ModelError(message=text, endpoint="e", status=503, broke_off=True),
                lambda: ToolError(message=text, tool=text),
            ]
        )
    )()
    if draw(st.booleans()):
        error.__dict__["extra"] = draw(values)
    for note in draw(st.lists(st.text(max_size=5), max_size=2)):
        BaseException.add_note(error, note) if not isinstance(error, Frozen) else None
    return error


def grouped(parts):
    if any(not isinstance(part, Exception) for part in parts):
        return BaseExceptionGroup("some", parts)
    return Group(parts, 7) if len(parts) == 2 else ExceptionGroup("some", parts)


def depth(error):
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return max(map(depth, parts), default=-1) + 1


@given(errors())
def test_an_error_comes_back_as_it_was(error):
    assert shape(kept(error)) == shape(error)


@given(st.recursive(errors(), lambda e: st.lists(e, min_size=1, max_size=3).map(grouped)))
def test_a_group_comes_back_by_its_parts(error):
    again = kept(error)
    if not isinstance(error, BaseExceptionGroup) or depth(error) <= 4:
        assert shape(again) == shape(error)
    assert type(again) is type(error)


@given(errors())
def test_what_came_back_comes_back_again(error):
    assert shape(kept(kept(error))) == shape(kept(error))


@pytest.mark.parametrize(
    "value",
    [socket.socket, lambda: None, sys, object(), asyncio.Queue, (i for i in ()), type],
    ids=["class", "function", "module", "object", "other", "generator", "type"],
)
def test_what_is_no_data_is_a_placeholder_and_the_class_stays(value):
    error = Plain(value)
    error.held = {"deep": [value]}
    again = kept(error)
    assert type(again) is Plain
    assert isinstance(again.args[0], Placeholder)
    assert isinstance(again.held["deep"][0], Placeholder)
    assert again.args[0].kind in repr(again.args[0])
    assert str(again) == str(error)[:200]


def test_a_placeholder_names_the_class_of_what_is_gone():
    with socket.socket() as connection:
        again = kept(Plain("no answer", connection))
    assert repr(again.args[1]) == "<socket.socket, which was not kept>"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 5_000_000),
        Wanting("y" * 100_000, reason=["z" * 1_000] * 100),
        Plain(list(range(200_000))),
        Plain({n: n for n in range(100_000)}),
        Silent(facts=b"\0" * 1_000_000),
        Text(b"\xff" * 1_000_000),
        UnicodeDecodeError("utf-8", b"\xff" * 1_000_000, 0, 1, "big"),
        ExceptionGroup("many", [ValueError("w" * 10_000) for _ in range(50)]),
        RecursionError("r" * 100_000),
        Plain(10**100_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_huge_error_is_stored_small_and_keeps_its_class(error):
    stored = json.dumps(failure_data(failure_of(error, "n[0]")))
    assert len(stored) < 60_000
    assert len(failure_of(error, "").message) < 5_000
    assert type(error_of(failure_from(json.loads(stored)))) is type(error)


def test_what_was_cut_says_so():
    again = kept(ValueError("x" * 50_000))
    assert "[cut: 50000 in all]" in again.args[0]


@pytest.mark.parametrize("error", [Mute(), Mute("a"), ExceptionGroup("g", [Mute()]), Plain(Mute())])
def test_an_error_without_a_text_is_recorded_all_the_same(error):
    failure = failure_of(error, "n[0]")
    assert "RuntimeError" in failure.message
    assert type(error_of(failure)) is type(error)


def test_errors_that_hold_each_other_are_recorded():
    one, other = Plain("one"), Plain("other")
    one.other, other.other = other, one
    one.__cause__, other.__cause__ = other, one
    again = kept(one)
    assert again.other.other.args == ("one",)
    assert again.__cause__.args == ("other",)


def nested():
    nest = list[object]()
    for _ in range(1_000):
        nest = [nest]
    return nest


def test_what_is_nested_without_an_end_is_a_placeholder():
    loop = list[object]()
    loop.append(loop)
    assert isinstance(kept(Plain(loop)).args[0], Placeholder)
    assert isinstance(kept(Plain(nested())).args[0], Placeholder)


class Checked(BaseModel):
    n: int
    when: date
    code: str = Field(max_length=2)


@pytest.mark.parametrize(
    "check",
    [
        lambda: Checked(n="x", when="y", code="abc"),
        lambda: Checked.model_validate_json('{"n": [], "code": 3}'),
        lambda: Checked.model_validate_json("{"),
        lambda: Model.model_validate({"N": "no"}),
        lambda: TypeAdapter(list[int]).validate_python([1, "a", None]),
        lambda: TypeAdapter(int | None).validate_python(object()),
    ],
)
def test_pydantics_error_comes_back_with_its_problems(check):
    with pytest.raises(ValidationError) as raised:
        check()
    again = kept(raised.value)
    told = [(e["type"], e["loc"], e["msg"]) for e in raised.value.errors(include_url=False)]
    assert [(e["type"], e["loc"], e["msg"]) for e in again.errors(include_url=False)] == told
    assert again.title == raised.value.title
    if "object at" not in str(raised.value):
        assert str(again) == str(raised.value)


def test_a_validators_own_error_is_in_pydantics():
    from pydantic import field_validator

    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def even(cls, value):
            raise ValueError("must be even")

    with pytest.raises(ValidationError) as raised:
        Even(n=3)
    again = kept(raised.value)
    assert str(again) == str(raised.value)
    assert isinstance(again.errors()[0]["ctx"]["error"], ValueError)


def test_a_local_class_is_found_by_what_the_function_closes_over():
    class Local(Plain):
        pass

    async def look():
        raise Local("here")

    async def outer():
        await look()

    failure = failure_of(Local("here"), "")
    assert type(error_of(failure, look)) is Local
    assert type(error_of(failure, outer)) is Local
    assert type(error_of(failure)) is Plain


def test_of_a_class_that_is_gone_the_nearest_base_comes_and_nothing_is_lost():
    gone = type("Gone", (Missing,), {"__module__": "no.such.module"})
    again = kept(gone("k"))
    assert type(again) is Missing
    assert again.key == "k"
    assert "no.such.module.Gone" in again.__notes__[0]
    assert failure_of(again, "").type == "Gone"
    assert failure_of(again, "").message == "'k'"


def test_nothing_is_imported_to_find_a_class(tmp_path, monkeypatch):
    (tmp_path / "not_imported_yet.py").write_text("class Gone(Exception): ...")
    monkeypatch.syspath_prepend(tmp_path)
    failure = failure_of(Plain("x"), "")
    form = {**failure.form, "class": ["not_imported_yet", "Gone"], "bases": []}
    again = error_of(dataclasses.replace(failure, form=form))
    assert type(again) is Exception
    assert "not_imported_yet" not in sys.modules


def test_the_cause_and_the_notes_come_back():
    error = Plain("outer")
    error.__cause__ = KeyError("inner")
    error.add_note("while looking")
    again = kept(error)
    assert type(again.__cause__) is KeyError
    assert again.__notes__ == ["while looking"]


def boom():
    raise Wanting(3, reason="tired")


def test_the_traceback_is_kept_as_text_and_shown_with_the_copy():
    with pytest.raises(Wanting) as raised:
        boom()
    failure = failure_of(raised.value, "n[0]")
    assert 'raise Wanting(3, reason="tired")' in failure.traceback
    again = error_of(failure)
    assert isinstance(again.__cause__, RecordedTraceback)
    assert failure_of(again, "").traceback.count("in boom") == 1
    assert "RecordedTraceback" not in failure_of(again, "").traceback


def test_the_end_of_a_run_has_the_users_own_error_as_its_cause():
    failure = failure_of(Wanting(3, reason="tired"), "n[0]")
    error = run_failed("r1", failure)
    assert type(error) is RunFailed
    assert (error.run, error.path, error.cause_type) == ("r1", "n[0]", "Wanting")
    assert error.__cause__.code == 3
    assert pickle.loads(pickle.dumps(error)).traceback == failure.traceback


def test_the_message_of_a_group_names_what_is_in_it():
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("boom"), KeyError("k")])
    told = "unhandled errors in a TaskGroup (2 sub-exceptions): ValueError: boom; KeyError: 'k'"
    assert failure_of(group, "").message == told


def test_values_of_every_kind_come_back_in_an_error():
    value = {
        "when": datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        "who": UUID(int=3),
        "much": Decimal("NaN"),
        "long": timedelta(days=-1, microseconds=1),
        (1, 2): {3},
        "$": "tag",
    }
    again = kept(Plain(value)).args[0]
    assert repr(again) == repr(value)


def moved(failure, names):
    """Return a record as it is of a class whose module was named otherwise then."""
    return dataclasses.replace(failure, form=failure.form | {"class": names, "bases": []})


class Client:
    def call(self):
        raise Plain("x")

    def __call__(self):
        raise Plain("x")


@functools.wraps(len)
def wrapping():
    return boom()


@pytest.mark.parametrize(
    "near",
    [boom, functools.partial(boom), Client().call, Client(), tool(name="t")(boom), wrapping],
    ids=["function", "partial", "method", "object", "tool", "wrapped"],
)
def test_a_class_that_moved_is_found_in_the_globals_of_what_was_called(near):
    old = moved(failure_of(Plain("x"), ""), ["__main_of_old__", "Plain"])
    assert type(error_of(old, near)) is Plain
    assert type(error_of(old)) is Exception


def test_functions_that_see_each_other_are_looked_through_once():
    def ping():
        return pong()

    def pong():
        return ping()

    def unset():
        return later

    if not ping:
        later = 1
    old = moved(failure_of(Plain("x"), ""), ["gone", "f.<locals>.Gone"])
    assert type(error_of(old, ping, unset)) is Exception


def test_a_problem_of_the_users_own_type_comes_back_in_pydantics_error():
    def refuse(value):
        raise PydanticCustomError("odd", "{n} is odd", {"n": value})

    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Annotated[int, AfterValidator(refuse)]).validate_python(3)
    again = kept(raised.value)
    assert str(again) == str(raised.value)
    assert again.errors()[0]["ctx"] == {"n": 3}


def test_what_is_of_a_class_that_is_gone_is_a_placeholder():
    gone = {"__module__": "gone"}
    member = Enum("Member", ["A"], module="gone").A
    model = dataclasses.make_dataclass("Model", ["a"], namespace=gone)(1)
    again = kept(kept(Plain(member, model)))
    assert again.args[0] == Placeholder("gone.Member", "A")
    assert "Model" in again.args[1].kind


def test_a_zone_that_no_text_brings_back_is_a_placeholder():
    class Zone(tzinfo):
        def utcoffset(self, when):
            return timedelta(hours=1)

    again = kept(Plain(datetime(2026, 1, 1, tzinfo=Zone())))
    assert again.args[0].kind == "datetime.datetime"


def test_an_error_that_was_never_raised_comes_as_a_failed_run():
    again = error_of(Failure("StepLimit", "too many", "n[0]"))
    assert type(again) is RunFailed
    assert run_failed("r", Failure("NoOutput", "none")).__cause__ is None


def test_a_long_traceback_keeps_its_end():
    def deep(n):
        return deep(n - 1) if n else boom()

    with pytest.raises(Wanting) as raised:
        deep(400)
    text = failure_of(raised.value, "").traceback
    assert len(text) < 9_000
    assert text.endswith("Wanting: 3: tired\n")
