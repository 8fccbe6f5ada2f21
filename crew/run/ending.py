"""Why a run is not driven here any more: one cause, whatever brought it about."""

from enum import StrEnum

from crew.errors import Diverged, Unrecorded
from crew.event import RunParked


class End(StrEnum):
    """The cause of an end, which decides what is recorded and what becomes of children."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Somebody cancelled the run."""
    TIMED_OUT = "timed_out"
    """The seconds of its budget are over."""
    PARKED = "parked"
    """It waits for a person to choose a way on."""
    LEFT = "left"
    """This process lets it go; another one goes on with it."""
    FENCED = "fenced"
    """Another worker drives it."""
    STORE_FAILED = "store_failed"
    """What was written last may be lost: it is to be folded anew."""

    @property
    def is_final(self) -> bool:
        """Whether the run itself ends, and with it whatever it had under way."""
        return self in (End.COMPLETED, End.FAILED, End.CANCELLED, End.TIMED_OUT)


def parked_by(error: Diverged) -> RunParked:
    """Return the record of a run that a person has to choose a way on for."""
    refused = isinstance(error, Unrecorded) and error.effects_refused
    return RunParked(
        error.parked_as,
        str(error),
        error.path,
        error.recorded,
        error.asked,
        given=error.given or None,
        effects_refused=refused or None,
    )
