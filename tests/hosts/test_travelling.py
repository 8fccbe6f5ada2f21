"""Types of a user's module travel to hosts by value, and work there as they do at home."""

import dataclasses
import enum
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import pydantic.dataclasses
import pytest
from typing_extensions import TypedDict

from crew import Context, workflow
from crew.hosts.cluster import ray_module, travelling

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

T = TypeVar("T")
AWAY = """
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from crew.hosts.cluster import ray_module
from crew.value import Codec
codec = lambda kind: Codec(kind, where="a test")
for kind, given in ray_module().cloudpickle.load(sys.stdin.buffer):
    print(codec(kind).decode(given))
"""
"""What another process does with types: it reads values of them."""


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Named:
    name: str = "nobody"
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    label: str = "-"


@dataclass(kw_only=True)
class Keyword:
    x: int = 0
    y: int


@dataclass
class Line:
    start: Point
    end: Point | None = None


@dataclass
class Longer(Point):
    z: int = 3


@dataclass
class Box(Generic[T]):
    inside: T


@pydantic.dataclasses.dataclass
class Checked:
    x: int = pydantic.Field(default=1, gt=0)


class Pair(NamedTuple):
    x: int
    y: int = 2


class Row(TypedDict):
    x: int


class Colour(enum.Enum):
    RED = "red"


KINDS: list[tuple[Any, Any]] = [
    (Point, {"x": 1, "y": 2}),
    (list[Point], [{"x": 1, "y": 2}]),
    (Named, {}),
    (Named, {"tags": ["a"]}),
    (Frozen, {"x": 1}),
    (Keyword, {"y": 1}),
    (Line, {"start": {"x": 1, "y": 2}}),
    (Longer, {"x": 1, "y": 2}),
    (Box[int], {"inside": 1}),
    (Checked, {"x": 2}),
    (Pair, [1]),
    (Row, {"x": 1}),
    (Colour, "red"),
]


@workflow(name="of-this-module")
async def flow(ctx: Context, text: str) -> str:
    return text


def read_away(kinds: list[tuple[Any, Any]]) -> list[str]:
    """Return what values of types come to in a process that has only their bytes."""
    with travelling(flow):
        shipped = ray_module().cloudpickle.dumps(kinds)
    done = subprocess.run(
        [sys.executable, "-c", AWAY], input=shipped, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().splitlines()


def test_values_of_each_kind_of_type_are_read_there():
    assert read_away(KINDS) == [
        "Point(x=1, y=2)",
        "[Point(x=1, y=2)]",
        "Named(name='nobody', tags=[])",
        "Named(name='nobody', tags=['a'])",
        "Frozen(x=1, label='-')",
        "Keyword(x=0, y=1)",
        "Line(start=Point(x=1, y=2), end=None)",
        "Longer(x=1, y=2, z=3)",
        "Box(inside=1)",
        "Checked(x=2)",
        "Pair(x=1, y=2)",
        "{'x': 1}",
        "Colour.RED",
    ]


@pytest.mark.parametrize("kind", [Point, Named, Frozen, Keyword, Line])
def test_what_stands_for_no_default_is_the_same_after_a_journey(kind):
    ray_module()
    for each in dataclasses.fields(kind):
        copy = ray_module().cloudpickle.loads(ray_module().cloudpickle.dumps(each))
        assert (copy.default is dataclasses.MISSING) == (each.default is dataclasses.MISSING)
        is_made = copy.default_factory is not dataclasses.MISSING
        assert is_made == (each.default_factory is not dataclasses.MISSING)


def test_workflows_are_packed_in_several_threads_at_once():
    def pack(number: int) -> bytes:
        with travelling(flow):
            time.sleep(0.001)  # so that others come meanwhile
            return ray_module().cloudpickle.dumps(Point(number, 0))

    with ThreadPoolExecutor(8) as threads:
        packed = list(threads.map(pack, range(100)))
    # By value: with the code of its class, which by name would be a few bytes.
    assert min(map(len, packed)) > 500
    assert not ray_module().cloudpickle.list_registry_pickle_by_value()
