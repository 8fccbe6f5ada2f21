"""The Ray cluster: joining or starting one, what travels to it, and what comes back.

This is the one module that imports Ray.
"""

import asyncio
import copyreg
import dataclasses
import logging
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crew.errors import CrewError, ExtraMissing
from crew.graph import Workflow
from crew.hosts import HostLost
from crew.source import is_users_own

NAMESPACE = "crew"
OBJECT_STORE_BYTES = 128 << 20
CLIENT = "ray://"
"""How the addresses begin under which Ray's client server is reached."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
"""How long a cluster may take to answer a first question."""
CLIENT_TRIES = 2
MOST_HOSTS = 16
"""CPUs that a local cluster claims to have: they are places for hosts, most of which wait."""
logger = logging.getLogger(__name__)

_TRAVELLING = threading.Lock()
"""cloudpickle has one list of modules that go by value, and hosts are started in threads."""

_QUIET: dict[str, Any] = {
    "namespace": NAMESPACE,
    "log_to_driver": False,
    "logging_level": "ERROR",
}


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
    # By name: a copy of what stands for "no default" is one, and no dataclass would work there.
    copyreg.pickle(type(dataclasses.MISSING), _name_of_missing)
    return ray


def _name_of_missing(missing: object) -> str:
    return "MISSING"


def connect(address: str = "") -> bool:
    """Connect this process to a cluster; True if a quiet one had to be started for it.

    Blocks for seconds. A process that is connected already stays so.

    Args:
        address: `host:port` of a cluster's control store, for a process on one of its nodes;
            `ray://host:port` of its client server, for any other; empty to start one.

    Raises:
        ExtraMissing: Ray is not installed.
        CrewError: no cluster answers there, it wants another token, or has no node here.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = ray_module()
    if ray.is_initialized():
        return False
    if address:
        _join(address)
        return False
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=max(MOST_HOSTS, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        job_config=_job(),
        **_QUIET,
    )
    return True


def _join(address: str) -> None:
    """Join a cluster, or say what is in the way: Ray itself tries for minutes, or aborts."""
    ray = ray_module()
    try:
        _require_listener(address)
        if address.startswith(CLIENT):
            _require_client_server(address)
            _become_client(address)
        else:
            _require_node(address)
            ray.init(address=address, job_config=_job(), **_QUIET)
    except ray.exceptions.AuthenticationError as error:
        raise CrewError(
            message=f"the Ray cluster at {address!r} wants a token, and this process has none or "
            "another one; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to "
            "the cluster's: `ray get-auth-token` on its head prints it"
        ) from error
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise CrewError(
            message=f"no Ray cluster answers at {address!r} ({first_line(error)}); check "
            "CREW_RAY_ADDRESS: host:6379 on a node of the cluster, ray://host:10001 from "
            "elsewhere, with the ports that its head was started with; unset it to start a "
            "local one"
        ) from error


def _require_listener(address: str) -> None:
    """Raise OSError if nobody listens there."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _require_node(address: str) -> None:
    """Raise unless a node of the cluster is where this process can reach its sockets.

    Raises:
        AuthenticationError: this process has not the cluster's token.
        RpcError: what listens there is no control store.
        CrewError: there is no such node.
    """
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._private.services import find_node_ids

    if ":" not in address:
        return  # Ray finds the cluster by itself, as it does for `auto`
    ensure_token_if_auth_enabled(create_token_if_missing=False)
    store = ray_module()._raylet.GcsClient(address=address)  # noqa: SLF001  there is no other
    nodes = store.get_all_node_info(timeout=ANSWER_SECONDS)
    here = find_node_ids()
    if not any(
        node.hex() in here and Path(info.raylet_socket_name).exists()
        for node, info in nodes.items()
    ):
        host = address.rpartition(":")[0]
        raise CrewError(
            message=f"this process is on no node of the Ray cluster at {address!r}; run it on "
            f"one, or set CREW_RAY_ADDRESS=ray://{host}:10001, the cluster's client server"
        )


def _require_client_server(address: str) -> None:
    """Raise unless a client server answers there.

    Raises:
        AuthenticationError: this process has not the cluster's token.
        ConnectionError: what listens there is none.
        ExtraMissing: what Ray's client needs is not installed.
    """
    try:
        import grpc
    except ImportError as error:
        raise ExtraMissing(message=f"CREW_RAY_ADDRESS={address}", extra="ray") from error
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    made: Any = ray_client_pb2  # its names are made when it is imported
    ping = made.ClusterInfoRequest(type=made.ClusterInfoType.PING)
    channel = init_grpc_channel(address.removeprefix(CLIENT))
    try:
        ray_client_pb2_grpc.RayletDriverStub(channel).ClusterInfo(ping, timeout=ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            raise ray_module().exceptions.AuthenticationError(error.details()) from error
        raise ConnectionError(error.details() or error.code().name) from error
    finally:
        channel.close()


def _become_client(address: str) -> None:
    """Have a process of the cluster act for this one.

    The server forks it while its own threads are at work, and on a busy machine it dies at times
    before it begins (seen with Ray 2.60), which takes most of a minute: then another one is asked
    for.

    Raises:
        ConnectionError: none of them began.
    """
    for left in reversed(range(CLIENT_TRIES)):
        try:
            ray_module().init(address=address, **_QUIET)
        except ConnectionAbortedError as error:
            reason = str(error).strip().splitlines()[-1]
            if not left:
                raise ConnectionError(reason) from error
            logger.warning("cluster.again", extra={"address": address, "reason": reason})
        else:
            return


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
    with _TRAVELLING:
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
        HostLost: the actor died or is being restarted, or a client has lost its cluster; the call
            may or may not have run.
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
    except (errors.RayActorError, ConnectionError) as error:
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
