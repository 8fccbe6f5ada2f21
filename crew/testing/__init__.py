"""For tests of your own workflows and stores: scripted models, faults, and conformance.

from crew.testing import ScriptedModel, StoreSuite, ToolCall, simulate
"""

from typing import TYPE_CHECKING

from crew.later import loading
from crew.llm.scripted import ScriptedModel
from crew.message import ToolCall

if TYPE_CHECKING:
    from crew.testing.faulty_store import CrashingStore, FaultyStore
    from crew.testing.generator import programs
    from crew.testing.scheduler import SeededLoop
    from crew.testing.simulation import Simulated, SimulationFailed, simulate
    from crew.testing.store_suite import StoreSuite

# What is not named is not loaded: most tests need a scripted model alone.
_LATER = {
    "CrashingStore": "crew.testing.faulty_store",
    "FaultyStore": "crew.testing.faulty_store",
    "SeededLoop": "crew.testing.scheduler",
    "Simulated": "crew.testing.simulation",
    "SimulationFailed": "crew.testing.simulation",
    "StoreSuite": "crew.testing.store_suite",
    "programs": "crew.testing.generator",
    "simulate": "crew.testing.simulation",
}

__all__ = [
    "CrashingStore",
    "FaultyStore",
    "ScriptedModel",
    "SeededLoop",
    "Simulated",
    "SimulationFailed",
    "StoreSuite",
    "ToolCall",
    "programs",
    "simulate",
]


__getattr__ = loading(__name__, _LATER)


def __dir__() -> list[str]:
    return __all__
