"""Requests made from /openapi.json by schemathesis: what is answered is what is described there."""

import asyncio
import threading

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.http.operation import describe
from serving.routes import OPERATIONS
from tests.serving.conftest import open_endpoint

QUICK, LONG = 12, 150
"""Requests of each operation: seconds for the first stage of CI, a minute for the second."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A served app, on a loop of its own in another thread, and a run that it has had."""
    loop, stop, found = asyncio.new_event_loop(), asyncio.Event(), []
    ready = threading.Event()

    async def serve() -> None:
        folder = tmp_path_factory.mktemp("store")
        async with open_endpoint(f"sqlite:///{folder}/runs.db") as endpoint:
            await endpoint.ask("echo", "hi", extra_body={"conversation": "thread"})
            asked = await endpoint.ask("asking", "hi")
            found.extend([endpoint.url.removesuffix("/v1"), asked.crew["run_id"]])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield found
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


def grounded(case, run: str) -> bool:
    """Let a well formed request name what there is; False where it names nothing."""
    there = {
        "run": run,
        "response": f"resp_{run}",
        "previous_response_id": f"resp_{run}",
        "conversation": "thread",
        "item": f"msg_{run}_0",
        "model": "telling",
        "workflow": "telling",
        "key": "refund",
    }
    named = False
    for part in (case.path_parameters, case.body, case.query):
        for name in set(part) & set(there) if isinstance(part, dict) else ():
            part[name], named = there[name], True
    if isinstance(case.body, dict) and isinstance(case.body.get("messages"), list):
        case.body["messages"] = [*case.body["messages"], {"role": "user", "content": "hi"}]
    return named


def described(requests: int) -> schemathesis.BaseSchema:
    """Return the API as it describes itself, to be asked so much of each operation."""
    generation = {"max-examples": requests, "database": "none"}
    config = schemathesis.Config.from_dict({"seed": 20261127, "generation": generation})
    return schemathesis.openapi.from_dict(describe(OPERATIONS, version="0"), config=config)


quick, long = described(QUICK), described(LONG)


@quick.parametrize()
def test_answer_is_as_it_is_described(case, served):
    ask(case, served)


@pytest.mark.slow
@long.parametrize()
def test_answer_is_as_it_is_described_for_a_minute(case, served):
    ask(case, served)


def ask(case, served) -> None:
    url, run = served
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=10)
    if case.meta.generation.mode.is_positive and grounded(case, run):
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=10)
