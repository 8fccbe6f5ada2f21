"""What goes on is the same as what was given, or is refused: by annotations made at random."""

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pickle
from typing import Annotated, Any, Literal

from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    computed_field,
    create_model,
)
from pydantic.alias_generators import to_camel
from pydantic.errors import PydanticUserError

from crew.errors import GraphError, OutputInvalid
from crew.value import Codec


class Left(BaseModel):
    n: int


class Right(BaseModel):
    n: int


class Below(Left):
    more: str = "m"


class Double(BaseModel, extra="forbid"):
    n: int = 0

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.n


class Hidden(BaseModel):
    n: int = 0
    _seen: list[int] = PrivateAttr(default_factory=list)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Log:
    n: int
    lines: list[str] = dataclasses.field(init=False, default_factory=list)


@dataclasses.dataclass
class Product:
    n: int
    factor: dataclasses.InitVar[int] = 1
    result: int = 0

    def __post_init__(self, factor: int) -> None:
        self.result = self.n * factor


def hidden(seen: list[int]) -> Hidden:
    made = Hidden(n=1)
    made._seen.extend(seen)
    return made


def logged(lines: list[str]) -> Log:
    made = Log(1)
    made.lines.extend(lines)
    return made


numbers = st.integers(-3, 3) | st.just(2**70)
floats = st.sampled_from([0.0, -0.0, 1.0, 0.1, math.nan, math.inf, -math.inf])
words = st.sampled_from(["", "red", "1", "true", "NaN", "ä\u2028", "2026-11-24"])
zones = st.sampled_from(
    [
        None,
        datetime.UTC,
        datetime.timezone(datetime.timedelta(hours=1)),
        datetime.timezone(datetime.timedelta(hours=1), "Home"),
    ]
)
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, numbers),
    (int, st.booleans() | numbers),
    (str, words),
    (bool, st.booleans()),
    (float, floats),
    (float, numbers | floats),
    (Any, words | numbers | floats | st.just((1, 2)) | st.dates() | st.just({1})),
    (type(None), st.none()),
    (bytes, st.binary(max_size=3)),
    (Colour, st.sampled_from(Colour)),
    (Colour | str, st.sampled_from(Colour) | words),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (decimal.Decimal, st.sampled_from([decimal.Decimal(x) for x in ("1.10", "-0", "NaN", "1E+3")])),
    (datetime.date, st.dates()),
    (
        datetime.datetime,
        st.builds(
            datetime.datetime.replace,
            st.datetimes(),
            tzinfo=zones,
            fold=st.sampled_from([0, 1]),
        ),
    ),
    (Left, st.builds(Left, n=numbers) | st.builds(Below, n=numbers)),
    (Left | Right, st.builds(Left, n=numbers) | st.builds(Right, n=numbers)),
    (Double, st.builds(Double, n=numbers)),
    (Hidden, st.builds(hidden, st.lists(numbers, max_size=2))),
    (Log, st.builds(logged, st.lists(words, max_size=2))),
    (Product, st.builds(Product, numbers, numbers, numbers)),
    (SecretStr, st.builds(SecretStr, words)),
    (Annotated[int, BeforeValidator(abs)], numbers),
    (Annotated[str, Field(max_length=3)], words),
    (Annotated[int | None, Field(ge=0)], numbers | st.none()),
    (collections.deque[int], st.builds(collections.deque, st.lists(numbers), st.just(9))),
    (
        collections.defaultdict[str, int],
        st.builds(collections.defaultdict, st.sampled_from([int, float]), st.just({"a": 1})),
    ),
]


def _containers(inner: tuple[Any, st.SearchStrategy[Any]]) -> list[Any]:
    kind, values = inner
    some = st.lists(values, max_size=3)
    return [
        (list[kind], some),
        (list[kind], st.builds(tuple, some)),
        (tuple[kind, ...], st.builds(tuple, some)),
        (dict[str, kind], st.dictionaries(words, values, max_size=3)),
        (dict[int, kind], st.dictionaries(numbers, values, max_size=3)),
        (dict[tuple[int, int], kind], st.dictionaries(st.tuples(numbers, numbers), values)),
        (kind | None, values | st.none()),
    ]


@st.composite
def _models(draw: st.DrawFn, inner: Any) -> tuple[Any, st.SearchStrategy[Any]]:
    """A model of two fields, with what a model may have beside them."""
    parts = {name: draw(inner) for name in ("first_part", "other")}
    options = [{}, {"alias_generator": to_camel, "populate_by_name": True}, {"extra": "allow"}]
    options += [{"extra": "forbid"}, {"frozen": True}]
    config = ConfigDict(**draw(st.sampled_from(options)), arbitrary_types_allowed=True)
    try:
        fields = {name: (kind, ...) for name, (kind, _) in parts.items()}
        model = create_model("Made", __config__=config, **fields)
    except PydanticUserError:
        reject()  # pydantic itself allows no such field in such a model
    # What a program did to it since it was made is not validated.
    values = {name: value for name, (_, value) in parts.items()}
    return model, st.builds(model.model_construct, **values)


kinds = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: inner.flatmap(lambda one: st.sampled_from(_containers(one))) | _models(inner),
    max_leaves=4,
)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_value_goes_on_as_it_was_or_not_at_all(data):
    kind, values = data.draw(kinds)
    value = data.draw(values)
    before = _told(value)
    try:
        codec = Codec(kind, where="it")
        stored, copy = codec.passed_on(value)
    except (GraphError, OutputInvalid) as error:
        event(type(error).__name__)
        return
    event("goes on")
    assert _told(copy) == before
    assert _told(value) == before
    assert _told(codec.decode(stored)) == before
    assert _told(codec.read_back(stored)) == before


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_plain_values_are_never_refused(data):
    kind, values = data.draw(plain)
    value = data.draw(values)
    assert _told(Codec(kind, where="it").passed_on(value)[1]) == _told(value)


plain = st.recursive(
    st.sampled_from(
        [
            (int, numbers),
            (str, words),
            (bool, st.booleans()),
            (Left, st.builds(Left, n=numbers)),
            (float, floats),
            (Colour, st.sampled_from(Colour)),
            (Double, st.just(Double(n=2))),
        ]
    ),
    lambda inner: inner.flatmap(
        lambda one: st.sampled_from(
            [
                (list[one[0]], st.lists(one[1], max_size=3)),
                (dict[str, one[0]], st.dictionaries(words, one[1], max_size=3)),
                (one[0] | None, one[1] | st.none()),
            ]
        )
    ),
    max_leaves=3,
)


def _told(value: Any) -> Any:
    """Tell a value by its class and parts, in another way than the package compares them."""
    name = type(value).__name__
    if isinstance(value, BaseModel):
        held = value.__getstate__()
        parts = [held["__dict__"], held["__pydantic_extra__"], held["__pydantic_private__"]]
        return (name, id(type(value)), [sorted(_told(part or {})[1], key=repr) for part in parts])
    if dataclasses.is_dataclass(value):
        return (name, _told(vars(value)))
    if isinstance(value, dict):
        pairs = [(_told(key), _told(item)) for key, item in value.items()]
        return (name, pairs, getattr(value, "default_factory", None))
    if isinstance(value, (list, tuple, collections.deque)):
        return (name, [_told(item) for item in value], getattr(value, "maxlen", None))
    if isinstance(value, (set, frozenset)):
        return (name, sorted(map(repr, map(_told, value))))
    if isinstance(value, datetime.datetime):
        return (name, value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo))
    if type(value) in (int, float) and (value != value or float(value) == value):
        return ("number", repr(float(value)))  # where a float is declared, an int may stand for it
    if isinstance(value, (float, decimal.Decimal, enum.Enum)):
        return (name, repr(value))
    return (name, pickle.dumps(value))


def _zone(zone: Any) -> Any:
    """A fixed offset is told by what it is, in whatever class; pydantic has one of its own."""
    if zone is None:
        return None
    named = zone.tzname(None)
    return (zone.utcoffset(None), named if not named.startswith(("UTC", "+")) else "")
