"""Where one call of a context is made: its paths, in each of its attempts."""

from crew.call.lineage import Inside, Scope


class Place:
    """Where one attempt of a call is made.

    Args:
        name: the callee's, under which the call is recorded.
        above: what it is made in, of its path.
        part: the last part of its path.
        within: the place of the code that makes it.
        attempt: which one it is; `~n` names those after the first.
    """

    __slots__ = ("above", "name", "part", "path", "tries", "within")

    def __init__(self, name: str, above: Scope, part: str, within: Scope, attempt: int = 1) -> None:
        self.name = name
        self.above = above
        self.part = part
        self.within = within
        self.tries = "" if above is within else within.tries
        if attempt > 1:
            self.tries += f"~{attempt}"
        self.path = f"{above.prefix}/{part}{self.tries}"

    def again(self, attempt: int) -> "Place":
        """Return the place of a further attempt."""
        return Place(self.name, self.above, self.part, self.within, attempt)

    @property
    def lasting_path(self) -> str:
        """The path of what further attempts find again, such as an effect."""
        return f"{self.above.lasting}/{self.part}"

    @property
    def inside(self) -> Scope:
        """Where calls are made that this one makes itself."""
        above = self.above
        # Where nothing is tried again both are the same text, which need not be made twice.
        is_same = above.lasting is above.prefix and not self.tries
        lasting = self.path if is_same else self.lasting_path
        return Scope(above.owner, self.path, lasting, above.tries + self.tries)


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
