"""`ctx.thread.state`: the state of a thread in a turn of it, read and changed by its code."""

from collections.abc import Mapping

from crew.call.driven import Driven
from crew.call.lineage import SCOPE, Scope
from crew.call.place import misplaced
from crew.call.thread_view import storable
from crew.errors import GraphError
from crew.message import Json
from crew.thread import OWN, ThreadState
from crew.value import own_copy

__all__ = ["TurnState", "function_around", "hand_out"]

_IN_FUNCTION = (
    "is changed in {function}, a function that ctx.run called: after a crash its result stands, "
    "and it is not entered again. Return what is to be kept, and set it where it is called"
)


class TurnState(ThreadState):
    """The state as the code of one attempt sees it; what it holds may be changed in place, too.

    Args:
        driver: that of the attempt.
    """

    def __init__(self, driver: Driven) -> None:
        super().__init__({})
        self._driver = driver

    def seen(self) -> Mapping[str, Json]:
        """Return the state; a copy where nothing may be changed."""
        driver = self._driver
        if driver.thread_id is None:
            return {}
        values = driver.thread_view().values
        return values if not self._misplaced() else own_copy(values)

    def opened(self) -> dict[str, Json]:
        if (problem := self._misplaced()) or self._driver.thread_id is None:
            problem = problem or "needs a thread to be kept with: start the run with thread=…"
            raise GraphError(message=f"ctx.thread.state {problem} (run {self._driver.run_id})")
        return self._driver.thread_view().values

    def __setitem__(self, name: str, value: Json) -> None:
        if not isinstance(name, str) or not name or name.startswith(OWN):
            raise GraphError(
                message=f"ctx.thread.state[{name!r}]: a name is a text that does not begin with "
                f"{OWN!r}"
            )
        super().__setitem__(name, storable(name, value))

    def _misplaced(self) -> str:
        """Return why the code that runs now may not change it; empty if it may."""
        scope, attempt = SCOPE.get(), self._driver.attempt
        if type(scope) is not Scope or scope.owner is not attempt:
            return f"cannot be changed here: {misplaced('thread.state', scope, attempt.path)}"
        if function := function_around(self._driver, scope):
            return _IN_FUNCTION.format(function=function)
        return ""


def function_around(driver: Driven, scope: Scope) -> str:
    """Return the path of the innermost function's call that code in a scope runs in, if any."""
    path, outermost = scope.prefix, driver.attempt.path
    while path != outermost and path:
        if driver.is_function(path):
            return path
        path = path.rpartition("/")[0]
    return ""


def hand_out(driver: Driven, path: str) -> None:
    """Let code see what the call at `path` has changed, whose end it gets now."""
    scope = SCOPE.get()
    function = function_around(driver, scope) if type(scope) is Scope else ""
    driver.thread_view().hand_out(path, function)
