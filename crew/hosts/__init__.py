"""Hosts: where agents' work executes, and the protocol the driver speaks to them."""

import os
import socket
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from crew.call.record import AgentTask, Calls, Performer
from crew.define import frozen
from crew.message import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What an agent's host needs of a node, in Ray's terms.

    `cpu` and `gpu` are counts and may be fractions; `memory` is bytes; `custom` names resources
    that nodes declare. They decide placement, they do not isolate.
    """

    cpu: float = 0.1
    gpu: float = 0.0
    memory: int = 0
    custom: dict[str, float] = field(default_factory=dict)


@frozen
class Place:
    """A process in which work runs."""

    host: str
    pid: int


class HostLost(Exception):
    """The host died or stopped while it worked; what it recorded is in the journal."""


class Hosts(Protocol):
    """Where agents' work executes."""

    async def place(self, agent: Performer, task: AgentTask) -> Place:
        """Return the process that will do this task, started if there is none.

        Raises:
            HostLost: it died meanwhile; ask again.
        """
        ...

    async def perform(self, agent: Performer, task: AgentTask, calls: Calls) -> dict[str, Json]:
        """Do an agent's task; each of its calls goes through `calls`.

        Raises:
            HostLost: do it again; its recorded calls return at once.
        """
        ...

    async def close(self) -> None: ...


def here() -> Place:
    """Return this process."""
    return _place(os.getpid())  # a process that is forked off has another


@lru_cache(maxsize=1)
def _place(pid: int) -> Place:
    return Place(socket.gethostname(), pid)
