"""One trace per run, made of its journal, whoever drives it."""

import asyncio
import gzip
import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from crew import Agent, Budget, Context, Graph, Retry, RunFailed, Runtime, tool, workflow
from crew.config import load_settings
from crew.errors import SettingsInvalid, StoreError
from crew.journal.memory import MemoryStore
from crew.message import ToolCall
from crew.telemetry import Sink
from crew.telemetry.setup import configure_tracing
from crew.telemetry.traces import Traces, span_id, trace_id, tracer_of
from crew.testing import ScriptedModel
from crew.testing.faulty_store import CrashingStore
from tests.core.flows import Answer, Question


class Spans:
    """What a runtime's observer exports."""

    def __init__(self, **options) -> None:
        self.exporter = InMemorySpanExporter()
        self._provider = TracerProvider(**options)
        self._provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def follow(self, runtime: Runtime) -> Runtime:
        runtime.telemetry.add(Traces(tracer_of(self._provider)))
        return runtime

    @property
    def all(self) -> list:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str):
        (span,) = [span for span in self.all if span.name == name]
        return span

    def parents(self) -> dict[str, str | None]:
        """The name of each span's parent, by its own."""
        names = {span.context.span_id: span.name for span in self.all}
        return {s.name: s.parent and names[s.parent.span_id] for s in self.all}


@pytest.fixture
def spans():
    return Spans()


@tool(effect="read")
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


def searching() -> Graph:
    """A step, with an agent that calls a tool."""
    steps = [ToolCall("look_up", {"word": "ray"}), "found"]
    agent = Agent("searcher", model=ScriptedModel(steps, name="m1"), tools=[look_up])
    graph = Graph("searching", input=Question, output=Answer)

    @graph.node
    async def search(ctx: Context, question: Question) -> Answer:
        return Answer(text=(await ctx.run(agent, question.text)).output)

    return graph


async def test_run_step_agent_model_and_tool_have_a_span_each(url, spans):
    async with spans.follow(Runtime(url)) as runtime:
        await (await runtime.start(searching(), Question(text="ray"), thread="t1")).result()

    assert len(spans.all) == 6
    assert spans.parents() == {
        "invoke_workflow searching": None,
        "step search": "invoke_workflow searching",
        "invoke_agent searcher": "step search",
        "chat m1": "invoke_agent searcher",
        "execute_tool look_up": "invoke_agent searcher",
    }


async def test_spans_follow_the_conventions_and_hold_no_text(url, spans):
    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(searching(), Question(text="ray"), thread="t1")
        await run.result()
    chat = dict(next(span for span in spans.all if span.name == "chat m1").attributes)

    assert chat.pop("gen_ai.usage.input_tokens") > 0
    assert chat.pop("gen_ai.usage.output_tokens") > 0
    assert chat == {
        "crew.run.id": run.id,
        "crew.path": "search[0]/searcher/model.0",
        "gen_ai.conversation.id": "t1",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "unknown",
        "gen_ai.request.model": "m1",
        "gen_ai.response.model": "m1",
    }
    assert "found" not in repr([(s.attributes, s.status.description) for s in spans.all])


class Served(ScriptedModel):
    """A model whose endpoint tells with its first answer who computes there."""

    @property
    def provider(self) -> str:
        return "vllm" if self.requests else "openai"


@pytest.mark.parametrize(("reply", "provider"), [("yes", "vllm"), (ValueError("no"), "openai")])
async def test_provider_is_the_one_that_is_known_at_the_end(url, spans, reply, provider):
    model = Served([reply], name="m1")

    @workflow
    async def asking(ctx: Context, text: str) -> str:
        return (await ctx.run(Agent("asker", model=model), text)).output

    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(asking, "?")
        await asyncio.gather(run.result(), return_exceptions=True)

    assert spans.named("chat m1").attributes["gen_ai.provider.name"] == provider


async def test_times_are_those_of_the_journal(url, spans):
    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(searching(), Question(text="ray"))
        await run.result()
        at = {(event.kind, event.path): event.at for event in await run.recorded()}
    step = spans.named("step search")

    assert step.start_time == round(at["step.started", "search[0]"] * 1e6) * 1000
    assert step.end_time == round(at["step.completed", "search[0]"] * 1e6) * 1000


class Stopping:
    """Two steps with an agent each; the first process is stopped in the second."""

    def __init__(self, *, stop: bool) -> None:
        self.stopped = asyncio.Event()
        self.flow = Graph("two", input=Question, output=Answer)
        agent = Agent("helper", model=ScriptedModel(["one", "two"][not stop :]))

        @self.flow.node
        async def first(ctx: Context, question: Question) -> list[str]:
            return [(await ctx.run(agent, question.text)).output]

        @self.flow.node
        async def second(ctx: Context, said: list[str]) -> Answer:
            helped = await ctx.run(agent, said[0])
            if stop:
                self.stopped.set()
                await asyncio.sleep(60)
            return Answer(text=helped.output)


async def test_run_that_is_taken_over_goes_on_with_its_trace(url, spans):
    before, after = Stopping(stop=True), Stopping(stop=False)
    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(before.flow, Question(text="go"))
        await before.stopped.wait()
    names = [span.name for span in spans.all]
    async with spans.follow(Runtime(url, workflows=[after.flow])) as runtime:
        await (await runtime.get(run.id)).result()

    helped = ["chat scripted", "invoke_agent helper"]
    assert names == [*helped, "step first", *helped]
    assert [span.name for span in spans.all[5:]] == ["step second", "invoke_workflow two"]
    assert {span.context.trace_id for span in spans.all} == {trace_id(run.id)}
    assert len({span.context.span_id for span in spans.all}) == 7
    assert spans.all[4].parent.span_id == spans.named("step second").context.span_id
    assert spans.named("step second").start_time < spans.all[4].start_time


async def test_span_ids_are_those_of_paths(url, spans):
    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(searching(), Question(text="ray"))
        await run.result()

    assert spans.named("step search").context.span_id == span_id(run.id, "search[0]")
    assert spans.named("invoke_workflow searching").context.span_id == span_id(run.id, "")


async def test_failing_step_has_the_status_of_an_error_on_each_attempt(url, spans):
    flow = Graph("flow", input=Question, output=Answer)

    @flow.node(retry=Retry(attempts=2, first_delay=0.001))
    async def fail(question: Question) -> Answer:
        raise ValueError("a secret")

    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(flow, Question(text="go"))
        with pytest.raises(RunFailed):
            await run.result()

    assert [span.status.status_code for span in spans.all] == [StatusCode.ERROR] * 3
    assert [span.attributes["error.type"] for span in spans.all] == ["ValueError"] * 3
    assert {span.attributes.get("crew.path") for span in spans.all} == {
        "fail[0]",
        "fail[0]~2",
        None,
    }
    assert "secret" not in repr([span.status.description for span in spans.all])


async def test_cancelled_run_leaves_no_span_without_its_parent(url, spans):
    before = Stopping(stop=True)
    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(before.flow, Question(text="go"))
        await before.stopped.wait()
        await run.cancel()
        async for _ in run.events():
            pass

    assert spans.parents()["invoke_agent helper"] == "step second"
    assert spans.named("step second").attributes["crew.outcome"] == "cancelled"


async def test_cancelled_agent_ends_with_all_that_it_began(url, spans):
    asked, let = asyncio.Event(), asyncio.Event()

    @tool(effect="read")
    async def hold() -> str:
        """Wait."""
        asked.set()
        return str(await let.wait())

    model = ScriptedModel([ToolCall("hold", {})])
    agent = Agent("holder", model=model, tools=[hold])

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        held = asyncio.create_task(ctx.run(agent, text))
        await ctx.run(asked.wait)
        held.cancel()
        await ctx.sleep(0.1)
        return text

    async with spans.follow(Runtime(url)) as runtime:
        await (await runtime.start(flow, "go")).result()

    over = spans.named("step flow").end_time - 50_000_000  # it slept for 100 ms after the cancel
    for name in ("invoke_agent holder", "execute_tool hold"):
        assert spans.named(name).attributes["crew.outcome"] == "cancelled"
        assert spans.named(name).end_time < over
    assert spans.parents()["execute_tool hold"] == "invoke_agent holder"


async def test_child_run_is_linked_to_its_parent(url, spans):
    child = searching()

    @workflow
    async def parent(ctx: Context, text: str) -> str:
        return (await ctx.run(child, Question(text=text))).text

    async with spans.follow(Runtime(url)) as runtime:
        run = await runtime.start(parent, "ray")
        await run.result()
    (link,) = spans.named("invoke_workflow searching").links

    assert link.context.trace_id == trace_id(run.id)
    assert link.context.span_id == spans.named("invoke_workflow parent").context.span_id


@pytest.mark.parametrize(("rate", "count"), [(0.0, 0), (1.0, 6)])
async def test_sampler_decides_for_a_whole_run(url, rate, count):
    spans = Spans(sampler=TraceIdRatioBased(rate))
    async with spans.follow(Runtime(url)) as runtime:
        await (await runtime.start(searching(), Question(text="ray"))).result()

    assert len(spans.all) == count


async def test_runs_that_have_ended_or_left_are_forgotten(url, spans):
    before = Stopping(stop=True)
    async with spans.follow(Runtime(url)) as runtime:
        ended = await runtime.start(searching(), Question(text="ray"))
        await ended.result()
        run = await runtime.start(before.flow, Question(text="go"))
        await before.stopped.wait()
        numbers = [runtime.store.run(each.id).number for each in (ended, run)]
        known = [runtime.telemetry.open_asks(number) for number in numbers]
    assert known == [None, 0]
    assert runtime.telemetry.open_asks(numbers[1]) is None


SCRIPT = """
import asyncio, sys
{setup}
from crew import Context, Runtime, workflow

@workflow
async def flow(ctx: Context, text: str) -> str:
    return text

async def main():
    async with Runtime(":memory:") as runtime:
        await (await runtime.start(flow, "hi")).result()

asyncio.run(main())
{check}
"""
SETUP = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""


def test_sdk_that_the_program_configured_is_used():
    check = "print(sorted(span.name for span in exporter.get_finished_spans()))"
    assert _printed(SETUP, check) == "['invoke_workflow flow', 'step flow']"


def test_without_one_nothing_is_loaded():
    heavy = ("opentelemetry", "prometheus_client")
    assert _printed("", f"print([name for name in {heavy} if name in sys.modules])") == "[]"


def _printed(setup: str, check: str) -> str:
    return _run(setup, check).stdout.strip()


def _run(setup: str, check: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT.format(setup=setup, check=check)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append(
            (self.path, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""


def test_spans_go_where_the_standard_variables_say(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        server.sent = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        _printed("from crew.telemetry.setup import configure_tracing\nconfigure_tracing()", "")
        server.shutdown()
    ((path, body),) = server.sent

    assert path == "/v1/traces"
    assert b"invoke_workflow flow" in body
    assert b"service.name" in body


def test_spans_are_not_sent_where_nobody_asks(monkeypatch):
    assert not configure_tracing()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert not configure_tracing()
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not configure_tracing()


async def test_what_runs_come_to_is_logged(url, caplog):
    caplog.set_level(logging.INFO, logger="crew")
    before, after = Stopping(stop=True), Stopping(stop=False)
    async with Runtime(url) as runtime:
        run = await runtime.start(before.flow, Question(text="go"))
        await before.stopped.wait()
    async with Runtime(url, workflows=[after.flow]) as runtime:
        await (await runtime.get(run.id)).result()
    told = [record for record in caplog.records if getattr(record, "run", "") == run.id]

    assert [record.message for record in told] == ["run.started", "run.taken", "run.completed"]
    assert {(record.workflow, record.tenant) for record in told} == {("two", "default")}
    assert told[-1].seconds > 0


async def test_failed_run_is_logged_without_what_it_said(url, caplog):
    caplog.set_level(logging.INFO, logger="crew")
    agent = Agent("agent", model=ScriptedModel(["yes"]))

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return (await ctx.run(agent, text)).output

    async with Runtime(url) as runtime:
        run = await runtime.start(flow, "a secret", budget=Budget(tokens=1))
        with pytest.raises(RunFailed):
            await run.result()
    (failed,) = [record for record in caplog.records if record.message == "run.failed"]

    assert failed.error == "BudgetExceeded"
    assert "secret" not in repr([vars(record) for record in caplog.records])


async def test_failing_store_is_logged_and_its_runs_are_not_told_as_done(spans, caplog):
    store = CrashingStore(MemoryStore(), after=3)
    async with spans.follow(Runtime(store)) as runtime:
        run = await runtime.start(searching(), Question(text="ray"))
        with pytest.raises(StoreError):
            await run.result()

    assert {r.message for r in caplog.records if r.name.startswith("crew")} == {"commit.failed"}
    assert spans.all == []


async def test_broken_sink_harms_no_run(url, caplog):
    class Broken(Sink):
        def ended(self, work):
            raise RuntimeError("broken")

    async with Runtime(url) as runtime:
        runtime.telemetry.add(Broken())
        run = await runtime.start(searching(), Question(text="ray"))
        assert (await run.result()).text == "found"
    assert "observer.failed" in caplog.messages


def test_servers_log_lines_of_json_where_it_is_asked_for():
    setup = "from crew.config import Settings\nfrom crew.telemetry.setup import configure\n"
    lines = _run(f"{setup}configure(Settings(log='info'))", "").stderr.splitlines()
    told = [json.loads(line) for line in lines]

    assert [line["event"] for line in told] == ["run.started", "run.completed"]
    assert told[1].keys() == {
        *("at", "level", "event", "run", "workflow", "version", "tenant", "conversation"),
        *("seconds", "error"),
    }


def test_nothing_is_logged_by_itself():
    assert _run("", "").stderr == ""


def test_level_of_the_log_is_checked(monkeypatch):
    monkeypatch.setenv("CREW_LOG", "loud")
    with pytest.raises(SettingsInvalid, match="debug, info, warning"):
        load_settings()
