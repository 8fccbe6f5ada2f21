"""The host that is this process: agents' work runs as coroutines beside the run's steps."""

from collections.abc import Coroutine
from typing import Any

from crew.call.record import AgentTask, Calls, Equipment, Performer
from crew.config import Settings
from crew.hosts import Place, here
from crew.message import Json


class LocalHosts:
    """Agents run in this process, on the driver's event loop."""

    def __init__(self, settings: Settings) -> None:
        self._equipment = Equipment(settings)

    async def place(self, agent: Performer, task: AgentTask) -> Place:
        return here()

    def perform(
        self, agent: Performer, task: AgentTask, calls: Calls
    ) -> Coroutine[Any, Any, dict[str, Json]]:
        return agent.perform(task, calls, self._equipment)

    async def close(self) -> None:
        await self._equipment.close()
