"""For tests of your own workflows and stores: scripted models, faults, and conformance.

from crew.testing import ScriptedModel, StoreSuite, ToolCall, simulate
"""

from crew.llm.scripted import ScriptedModel
from crew.message import ToolCall
from crew.testing.faulty_store import CrashingStore, FaultyStore
from crew.testing.programs import programs
from crew.testing.scheduler import SeededLoop
from crew.testing.simulation import Simulated, SimulationFailed, simulate
from crew.testing.store_suite import StoreSuite

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
