import asyncio
import json

import httpx2
import pytest

ENDED = ("completed", "failed", "cancelled")


@pytest.fixture
async def api(endpoint):
    async with httpx2.AsyncClient(base_url=endpoint.url, timeout=10) as client:
        yield client


async def start(api, workflow, text, headers=None, **more) -> dict:
    body = {"workflow": workflow, "input": text, **more}
    answer = await api.post("/runs", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(api, run, *statuses) -> dict:
    async with asyncio.timeout(10):
        while True:
            told = (await api.get(f"/runs/{run['id']}")).json()
            if told["status"] in statuses:
                return told
            await asyncio.sleep(0.02)


async def read(api, run, headers=None, **query) -> list[dict]:
    """The data of each frame of a run's stream, to its end; each has its offset as its id."""
    answer = await api.get(f"/runs/{run['id']}/events", params=query, headers=headers)
    frames = [frame.split("\n") for frame in answer.text.split("\n\n") if frame[:2] == "id"]
    events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [head for head, _ in frames] == [f"id: {event['offset']}" for event in events]
    return events


async def test_run_is_started_with_the_json_of_its_input(api):
    run = await start(api, "ordering", {"item": "tea", "count": 2})
    done = await until(api, run, *ENDED)

    assert (done["object"], done["workflow"], done["version"]) == ("run", "ordering", "1")
    assert (done["status"], done["output"]) == ("completed", "2 of tea")
    assert done["input"] == {"item": "tea", "count": 2}
    assert done["questions"] == []


async def test_field_that_the_server_knows_a_value_for_may_be_left_out(api):
    done = await until(api, await start(api, "echo", {"text": "hi"}), *ENDED)

    assert done["output"] == {"text": "hi (0 before)", "sources": ["/docs"]}


async def test_usage_is_told_when_the_run_has_ended(api, gate, request):
    run = await start(api, "echo", {"text": request.node.name})
    assert run["usage"] is None
    gate.set()
    await until(api, run, "completed")
    done = await until(api, await start(api, "greeting", "hi"), "completed")

    assert done["usage"]["calls"] == 2


async def test_failed_run_tells_its_error(api):
    done = await until(api, await start(api, "failing", "this"), *ENDED)

    assert done["status"] == "failed"
    expected = {"type": "ValueError", "message": "cannot do this", "path": "failing[0]"}
    assert done["error"] == expected
    assert "output" not in done


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"workflow": "ecko"}, 404, "workflow", "workflow_not_found"),
        ({"input": "x"}, 400, "workflow", "invalid_value"),
        ({"workflow": "ordering", "input": {"item": "tea"}}, 400, "input", "invalid_input"),
        ({"workflow": "ordering"}, 400, "input", "invalid_input"),
        ({"workflow": "telling", "input": "x", "thread": ""}, 400, "thread", "invalid_value"),
        ({"workflow": "telling", "input": "x", "thread": "\n"}, 400, "thread", "invalid_value"),
        ({"workflow": "telling", "when_busy": "x"}, 400, "when_busy", "invalid_value"),
        ({"workflow": "telling", "budget": {"tokens": 0}}, 400, "budget.tokens", "invalid_value"),
        ({"workflow": "telling", "budget": {"calls": "9"}}, 400, "budget.calls", "invalid_type"),
        ({"workflow": "telling", "budget": {"seconds": 0}}, 400, "budget.seconds", "invalid_value"),
    ],
)
async def test_run_that_cannot_be_started_is_refused(api, endpoint, body, status, param, code):
    answer = await api.post("/runs", json=body)
    error = answer.json()["error"]

    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert await endpoint.runtime.runs() == []


async def test_same_idempotency_key_is_the_same_run_and_other_input_is_refused(api):
    headers = {"Idempotency-Key": "k-1"}
    first = await start(api, "telling", "hi", headers)
    again = await start(api, "telling", "hi", headers)
    assert again["id"] == first["id"]

    body = {"workflow": "telling", "input": "other"}
    answer = await api.post("/runs", json=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "idempotency_key_reused"


async def test_busy_thread_refuses_a_run_that_does_not_want_to_wait(api, gate, request):
    run = await start(api, "echo", {"text": request.node.name}, thread="t")
    body = {"workflow": "echo", "input": {"text": "x"}, "thread": "t", "when_busy": "reject"}
    answer = await api.post("/runs", json=body)
    gate.set()

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "thread_busy")
    assert (await until(api, run, *ENDED))["thread"] == "t"


@pytest.mark.parametrize("budget", [{"tokens": 5}, {"calls": 1}, {"seconds": 1e-6}])
async def test_budget_bounds_a_run(api, budget):
    run = await until(api, await start(api, "greeting", "hi", budget=budget), *ENDED)

    assert (run["status"], run["error"]["type"]) == ("failed", "BudgetExceeded")


async def test_runs_are_listed_newest_first_page_by_page(api):
    ids = [(await start(api, "telling", "x", thread=f"t{n % 2}"))["id"] for n in range(5)][::-1]
    first = (await api.get("/runs", params={"limit": 2})).json()
    second = (await api.get("/runs", params={"limit": 3, "before": ids[1]})).json()
    of_thread = (await api.get("/runs", params={"thread": "t1"})).json()

    assert ([run["id"] for run in first["data"]], first["has_more"]) == (ids[:2], True)
    assert ([run["id"] for run in second["data"]], second["has_more"]) == (ids[2:], False)
    assert [run["id"] for run in of_thread["data"]] == [ids[1], ids[3]]


async def test_runs_are_found_by_their_status(api):
    run = await start(api, "asking", "x")
    await until(api, run, "waiting")
    await until(api, await start(api, "telling", "x"), "completed")
    listed = (await api.get("/runs", params={"status": "waiting"})).json()

    assert [item["id"] for item in listed["data"]] == [run["id"]]


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ({"status": "done"}, 400, "status"),
        ({"limit": "0"}, 400, "limit"),
        ({"limit": "many"}, 400, "limit"),
        ({"before": "r0"}, 404, None),
    ],
)
async def test_list_that_cannot_be_made_is_refused(api, query, status, param):
    answer = await api.get("/runs", params=query)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("GET", "/events"), ("POST", "/answer"), ("POST", "/cancel"), ("POST", "/fork")],
)
async def test_run_that_is_not_there_is_not_found(api, method, rest):
    body = {"key": "k", "value": 1} if rest == "/answer" else None
    answer = await api.request(method, f"/runs/r0{rest}", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


async def test_events_are_streamed_to_the_end_of_the_run(api):
    run = await start(api, "telling", "hi")
    events = await read(api, run)

    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["kind"], events[-1]["kind"]) == ("run.started", "run.completed")
    assert "".join(e["data"]["text"] for e in events if e["kind"] == "text.emitted").endswith("ée")
    assert set(events[0]) == {"offset", "kind", "path", "data", "at"}


async def test_reader_that_comes_back_goes_on_behind_what_it_has_seen(api):
    run = await start(api, "telling", "hi")
    events = await read(api, run)

    assert await read(api, run, after=3) == events[3:]
    assert await read(api, run, {"Last-Event-ID": "4"}, after=2) == events[4:]
    assert await read(api, run, after=len(events)) == []
    assert await read(api, run, after=10_000) == []


async def test_events_come_while_the_run_goes_on(api, gate, request):
    run = await start(api, "echo", {"text": request.node.name})
    seen = []
    async with asyncio.timeout(10), api.stream("GET", f"/runs/{run['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:])["kind"])
            if seen[-1:] == ["progress.made"]:
                gate.set()

    assert seen[-1] == "run.completed"


async def test_quiet_stream_of_events_is_kept_open_by_comments(tmp_path, opening):
    async with (
        opening(f"sqlite:///{tmp_path}/runs.db", heartbeat=0.05) as endpoint,
        httpx2.AsyncClient(base_url=endpoint.url) as api,
    ):
        run = await start(api, "asking", "x")
        await until(api, run, "waiting")
        seen = ""
        async with asyncio.timeout(10), api.stream("GET", f"/runs/{run['id']}/events") as stream:
            async for part in stream.aiter_text():
                seen += part
                if seen.count(": ping\n\n") == 4:
                    answer = {"key": "refund", "value": True}
                    await api.post(f"/runs/{run['id']}/answer", json=answer)

    assert '"kind":"run.completed"' in seen
    assert "event:" not in seen


async def test_events_come_as_pages_too(api):
    run = await start(api, "telling", "hi")
    events = await read(api, run)
    path, query = f"/runs/{run['id']}/events", {"stream": "false", "after": 1}
    page = (await api.get(path, params=query | {"limit": 2})).json()
    rest = (await api.get(path, params=query)).json()

    assert page == {"object": "list", "data": events[1:3], "has_more": True}
    assert rest == {"object": "list", "data": events[1:], "has_more": False}


@pytest.mark.parametrize("offset", ["-1", "x", "1.5", "9" * 15, "9" * 40])
async def test_place_in_the_events_that_cannot_be_is_refused(api, offset):
    run = await start(api, "telling", "hi")
    path = f"/runs/{run['id']}"
    answer = await api.get(f"{path}/events", headers={"Last-Event-ID": offset})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")

    page = await api.get(f"{path}/events", params={"after": offset, "stream": False})
    assert (page.status_code, page.json()["error"]["param"]) == (400, "after")


async def test_fork_at_a_place_that_no_journal_has_is_refused(api):
    run = await start(api, "telling", "hi")
    answer = await api.post(f"/runs/{run['id']}/fork", json={"at": 1 << 80})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "at")


async def test_question_is_shown_and_its_answer_lets_the_run_go_on(api):
    run = await until(api, await start(api, "asking", "x"), "waiting")
    (question,) = run["questions"]
    assert (question["key"], question["question"]) == ("refund", "Refund?")
    assert question["schema"] == {"type": "boolean"}

    answer = {"key": question["path"], "value": True}
    assert (await api.post(f"/runs/{run['id']}/answer", json=answer)).status_code == 200
    assert (await until(api, run, *ENDED))["output"] == "refunded"


async def test_answer_sent_again_with_its_key_is_the_first(api):
    run = await until(api, await start(api, "asking", "x"), "waiting")
    path, key = f"/runs/{run['id']}/answer", {"Idempotency-Key": "k"}
    answer = {"key": "refund", "value": True}
    first = await api.post(path, json=answer, headers=key)
    ended = await until(api, run, *ENDED)
    assert (first.status_code, ended["output"]) == (200, "refunded")

    assert (await api.post(path, json=answer, headers=key)).json() == ended
    other = await api.post(path, json={"key": "refund", "value": False}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")
    assert (await api.post(path, json=answer)).status_code == 409


async def test_answer_that_does_not_fit_is_refused_and_the_question_stays(api):
    run = await until(api, await start(api, "asking", "x"), "waiting")
    path = f"/runs/{run['id']}/answer"
    wrong = await api.post(path, json={"key": "refund", "value": "perhaps"})
    nobody = await api.post(path, json={"key": "other", "value": True})

    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "value")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (409, "not_asked")
    assert (await until(api, run, "waiting"))["questions"] == run["questions"]


async def test_run_is_cancelled(api):
    run = await until(api, await start(api, "asking", "x"), "waiting")
    assert (await api.post(f"/runs/{run['id']}/cancel")).status_code == 200
    assert (await until(api, run, *ENDED))["status"] == "cancelled"

    again = await api.post(f"/runs/{run['id']}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


async def test_fork_goes_on_from_an_event_of_another_run(api):
    run = await until(api, await start(api, "greeting", "hi"), "completed")
    events = await read(api, run)
    at = next(e["offset"] for e in events if e["kind"] == "agent.completed")
    forked = (await api.post(f"/runs/{run['id']}/fork", json={"at": at})).json()
    done = await until(api, forked, *ENDED)

    assert done["id"] != run["id"]
    assert (await read(api, done))[:at] == events[:at]
    assert done["output"] == run["output"]


async def test_fork_at_an_event_that_is_not_there_is_refused(api):
    run = await until(api, await start(api, "telling", "hi"), "completed")
    answer = await api.post(f"/runs/{run['id']}/fork", json={"at": 1000})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "at")


async def test_model_carries_its_input_and_its_graph(api):
    told = (await api.get("/models/echo")).json()["crew"]

    assert told["input"]["required"] == ["text"]
    assert told["graph"] == {
        "nodes": [
            {"name": "input", "kind": "input"},
            {"name": "say", "kind": "node"},
            {"name": "output", "kind": "output"},
        ],
        "edges": [
            {"from": "input", "to": "say", "type": "Question", "list": False},
            {"from": "say", "to": "output", "type": "Answer", "list": False},
        ],
    }
