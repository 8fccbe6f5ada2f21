"""What those who own, take and let go of runs need of their runtime."""

from collections.abc import Coroutine
from typing import Any, Protocol

from crew.journal import Store
from crew.run.followers import Followers
from crew.run.other_runtimes import OtherRuntimes
from crew.run.surroundings import Surroundings
from crew.run.workflows import Workflows


class Employer(Surroundings, Protocol):
    """What a worker needs of its runtime."""

    store: Store
    workflows: Workflows
    """Those whose runs may be driven here."""
    followers: Followers
    other_runtimes: OtherRuntimes

    def introduce(self) -> None:
        """Tell others of which workflows runs are taken here."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...
