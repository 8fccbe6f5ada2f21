"""Which processes hold the hosts of a program, so that they can be killed."""

import asyncio
import os
import signal
from collections.abc import Container
from dataclasses import dataclass

from crew.hosts.cluster import NAMESPACE, ray_module


@dataclass(frozen=True, slots=True)
class Victim:
    """A host: its actor's name, its process, and its node's address and id."""

    name: str
    pid: int
    node: str
    node_id: str

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def hosts(kind: str, workflow: str = "") -> list[Victim]:
    """Return the hosts that are up: those of a kind, `run` or `agent`, and of a workflow."""
    from ray._private.state import actors

    return [
        Victim(actor["Name"], actor["Pid"], at["IPAddress"], at["NodeID"])
        for actor in actors().values()
        for at in [actor["Address"]]
        if actor["State"] == "ALIVE" and actor["Name"].startswith(f"crew:{kind}:{workflow}")
    ]


async def host(kind: str, workflow: str = "", *, but: Container[int] = ()) -> Victim:
    """Return the one host of a kind, once it is up in a process that is none of `but`."""
    while True:
        found = await asyncio.to_thread(hosts, kind, workflow)
        up = [each for each in found if each.pid and each.pid not in but]
        if len(up) == 1:
            return up[0]
        await asyncio.sleep(0.1)


def end_all() -> None:
    """End every host, for good."""
    ray = ray_module()
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(actor["name"], namespace=NAMESPACE))
