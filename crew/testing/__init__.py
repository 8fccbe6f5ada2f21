"""For tests of your own workflows and stores: scripted models, faults, and conformance.

from crew.testing import ScriptedModel, StoreSuite, ToolCall, simulate
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "CrashingStore": "faulty_store",
    "FaultyStore": "faulty_store",
    "SeededLoop": "scheduler",
    "Simulated": "simulation",
    "SimulationFailed": "simulation",
    "StoreSuite": "store_suite",
    "programs": "generator",
    "simulate": "simulation",
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


def __getattr__(name: str) -> Any:
    if name in _LATER:
        module = import_module(f"{__name__}.{_LATER[name]}")
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
