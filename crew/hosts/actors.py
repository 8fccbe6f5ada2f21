"""Actors of Ray: how they are named, started, waited for and stopped.

Calls are never retried by Ray (`max_task_retries=0`): a retry would repeat what the journal holds.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crew.errors import CrewError
from crew.graph import Workflow
from crew.hosts import HostLost
from crew.hosts.cluster import NAMESPACE, ray_module, unwrapped

START_SECONDS = 120.0
"""How long a host may take to start before its resources are taken to be missing."""
AGAIN_SECONDS = 0.25
"""How soon a host is asked again that is being restarted."""
MANY = 10_000
"""Calls of one actor at once."""
PIECE_BYTES = 64 << 10
"""Less than what Ray keeps in the call itself (100 KiB an argument, 10 MiB in all)."""

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


def in_pieces(data: bytes) -> list[bytes]:
    """Cut the bytes that an actor is made with into arguments.

    Ray keeps one that is larger in the object store of whoever starts the actor, and once that one
    is gone cannot restart the actor, whose work is lost then.

    Source: https://github.com/ray-project/ray/issues/53727
    """
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]


async def started(
    actor: Callable[[], Any], name: str, *, seconds: float = START_SECONDS
) -> tuple[Any, Any]:
    """Start a host, or find it; return its actor, and where it is.

    Args:
        actor: starts or finds it. Blocks.
        name: the host's.
        seconds: how long one that dies before it says where it is may take to come up again.

    Raises:
        CrewError: it does not come up.
    """
    until = time.monotonic() + seconds
    while True:
        found = await asyncio.to_thread(actor)
        try:
            return found, await answered(found.where.remote(), name)
        except HostLost as lost:
            if time.monotonic() > until:
                raise CrewError(
                    message=f"host {name} did not come up ({lost}); is any node left that has the "
                    "resources it asks for, and can it load the code?"
                ) from lost
            await asyncio.sleep(AGAIN_SECONDS)


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
