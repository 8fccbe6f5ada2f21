"""Where one call of a context is made: its paths, in each of its attempts."""

from dataclasses import dataclass

from crew.call.lineage import Inside, Scope


@dataclass(slots=True)
class Place:
    """Where one call is made: `above` in its path, at a `part` of it; `~n` names its attempts.

    `within` is the place of the code that makes it.
    """

    above: Scope
    part: str
    within: Scope

    def path(self, attempt: int = 1) -> str:
        return f"{self.above.prefix}/{self.part}{self._tries}{_suffix(attempt)}"

    @property
    def lasting_path(self) -> str:
        """The path of what further attempts find again, such as an effect."""
        return f"{self.above.lasting}/{self.part}"

    @property
    def _tries(self) -> str:
        return "" if self.above is self.within else self.within.tries

    def inside(self, attempt: int) -> Scope:
        return self.above.beneath(self.part, self._tries + _suffix(attempt))


def misplaced(name: str, scope: Scope | Inside | None, step: str) -> str:
    """Say why a call has no place, and where it could have one."""
    match scope:
        case Inside(what=what):
            where = f"inside {what}, which may run again or not at all after a crash"
        case Scope():
            where = "in another step"
        case _:
            where = "outside the tasks of its step"
    return f"the context of step {step} was used for {name!r} {where}; call it in the step's code"


def _suffix(attempt: int) -> str:
    return f"~{attempt}" if attempt > 1 else ""
