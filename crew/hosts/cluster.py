"""The Ray cluster: joining or starting one, what travels to it, and what comes back.

This is the one module that imports Ray.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from crew.errors import CrewError, ExtraMissing
from crew.graph import Workflow
from crew.hosts import HostLost
from crew.source import is_users_own

NAMESPACE = "crew"
OBJECT_STORE_BYTES = 128 << 20
CONNECT_SECONDS = 5.0
MOST_HOSTS = 16
"""CPUs that a local cluster claims to have: they are places for hosts, most of which wait."""


def ray_module() -> Any:
    """Return Ray; this is the one module that imports it.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import ray
        import ray.cloudpickle
        import ray.exceptions
        import ray.util
    except ImportError as error:
        raise ExtraMissing(message="agents='ray'", extra="ray") from error
    return ray


def connect(address: str = "") -> bool:
    """Connect this process to a cluster; True if a quiet one had to be started for it.

    Blocks for seconds. A process that is connected already stays so.

    Raises:
        ExtraMissing: Ray is not installed.
        CrewError: no cluster answers at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = ray_module()
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {
        "namespace": NAMESPACE,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "job_config": _job(),
    }
    if address:
        try:
            _require_listener(address)
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise CrewError(
                message=f"no Ray cluster answers at {address!r} ({first_line(error)}); check "
                "CREW_RAY_ADDRESS, or unset it to start a local one"
            ) from error
        return False
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=max(MOST_HOSTS, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        **quiet,
    )
    return True


def _require_listener(address: str) -> None:
    """Raise OSError if nobody listens there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def address_of_node() -> str:
    """Return the address under which other nodes reach this one."""
    return str(ray_module().util.get_node_ip_address())


def disconnect() -> None:
    """Leave the cluster; one that this process started ends. Blocks for a second or two."""
    ray_module().shutdown()


@contextmanager
def quiet_cluster() -> Iterator[str]:
    """Start a cluster on this machine for as long as the block lasts; yields its address."""
    connect()
    try:
        yield ray_module().get_runtime_context().gcs_address
    finally:
        disconnect()


@contextmanager
def travelling(workflow: Workflow) -> Iterator[None]:
    """Let the workflow's own modules travel by value: they are not importable on other machines.

    A module of this package, of the standard library or of an installed one goes by name; any
    other that is loaded (a file given by path, a user's module beside it) goes with its code.
    """
    cloudpickle = ray_module().cloudpickle
    modules = [
        module
        for module in list(sys.modules.values())
        if is_users_own(module) and module.__name__ not in _registered(cloudpickle)
    ]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _registered(cloudpickle: Any) -> set[str]:
    return set(cloudpickle.list_registry_pickle_by_value())


async def unwrapped(ref: Awaitable[Any]) -> Any:
    """Await a remote call; its own error comes out as it was raised.

    Raises:
        HostLost: the actor died or is being restarted; the call may or may not have run.
    """
    errors = ray_module().exceptions
    try:
        return await ref
    except errors.TaskCancelledError as error:
        raise HostLost(str(error)) from error
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, asyncio.CancelledError | errors.TaskCancelledError):
            raise HostLost("its task was cancelled") from error
        if isinstance(cause, Exception):
            raise cause from None
        raise
    except errors.RayActorError as error:
        raise HostLost(first_line(error)) from error


async def settled(ref: Awaitable[Any]) -> None:
    """Await a remote call whose outcome does not matter, since its host goes anyway."""
    try:
        await unwrapped(ref)
    except (HostLost, CrewError):
        return


def _job() -> Any:
    """Return a job whose workers do not look for modules in the working directory.

    A folder there that is called as one of our packages would hide it.
    """
    from ray.job_config import JobConfig

    job = JobConfig()
    job._client_job = True  # noqa: SLF001  the one switch that keeps the folder off sys.path
    return job


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; Ray's go on for pages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
