"""Actors of Ray: how they are named, started, waited for and stopped.

Calls are never retried by Ray (`max_task_retries=0`): a retry would repeat what the journal holds.
"""

import asyncio
import functools
import hashlib
from pathlib import Path
from typing import Any

from crew.errors import CrewError
from crew.graph import Workflow
from crew.hosts.cluster import NAMESPACE, ray_module, unwrapped

START_SECONDS = 120.0
"""How long a host may take to start before its resources are taken to be missing."""
MANY = 10_000
"""Calls of one actor at once."""

ACTOR: dict[str, Any] = {
    "namespace": NAMESPACE,
    "lifetime": "detached",
    "get_if_exists": True,
    "max_restarts": -1,
    "max_task_retries": 0,
}


def ctl(method: Any) -> Any:
    """Put an actor's method into the group with a loop of its own, which no work can block."""
    method.__ray_concurrency_group__ = "ctl"
    return method


@functools.cache
def library_hash() -> str:
    """Return a hash of this package's own code, which every host's name carries."""
    root = Path(__file__).parent.parent
    return hash_of(*(path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))))


def host_name(kind: str, workflow: Workflow, *parts: str) -> str:
    return ":".join(["crew", kind, f"{workflow.name}@{workflow.version}", *parts])


def hash_of(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


async def answered(ref: Any, name: str) -> Any:
    """Wait for a host's first answer.

    Raises:
        HostLost: it died meanwhile.
        CrewError: no node has what it needs, or it could not open its store.
    """
    try:
        async with asyncio.timeout(START_SECONDS):
            return await unwrapped(ref)
    except TimeoutError as error:
        raise CrewError(
            message=f"host {name} did not start within {START_SECONDS:.0f} s; does any node have "
            "the resources it asks for? `ray status` shows what is free"
        ) from error


async def retire_others(name: str) -> None:
    """Tell the hosts of the same thing with other code to end what they have, and stop."""
    ray = ray_module()
    same = name.rpartition(":")[0] + ":"
    named = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
    for item in named:
        other = item["name"]
        if item["namespace"] == NAMESPACE and other.startswith(same) and other != name:
            try:
                handle = await asyncio.to_thread(ray.get_actor, other, namespace=NAMESPACE)
            except ValueError:
                continue  # it stopped by itself since
            handle.retire.remote()


def is_there(name: str) -> bool:
    """Return whether there is an actor of this name, up or being restarted. Blocks."""
    try:
        ray_module().get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def stop_this_host() -> None:
    ray = ray_module()
    ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
