"""The `crew` command: each command parses, calls one function, and prints."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crew.config import Settings, load_settings
from crew.errors import CrewError, InputInvalid

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help='Teams of LLM agents that do not lose work.\n\nExample: crew ask "What is a task?"',
)
models = typer.Typer(invoke_without_command=True)
app.add_typer(models, name="models")
keys = typer.Typer(
    no_args_is_help=True,
    help="Who may call `crew serve`.\n\nExample: crew keys new --tenant acme",
)
app.add_typer(keys, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Store = Annotated[str | None, typer.Option(help="Where runs are kept: sqlite:///path.")]
Agents = Annotated[str | None, typer.Option(help="Where agents run: local or ray.")]
Docs = Annotated[str | None, typer.Option(help="Folder of documents that answer.")]
Thread = Annotated[str | None, typer.Option(help="The conversation this is a turn of.")]
Workflow = Annotated[str, typer.Option(help="Bundled name, file.py, or module:name.")]
Code = Annotated[
    str | None,
    typer.Option("--workflow", help="Whose runs: bundled name, file.py, or module:name."),
]
Status = Annotated[str | None, typer.Option(help="running, waiting, completed, …")]
WorkflowName = Annotated[str | None, typer.Option("--workflow", help="The name of theirs.")]
Since = Annotated[str | None, typer.Option(help="An age such as 12h or 7d, or a time.")]
Metadata = Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may come several times.")]
KeyFile = Annotated[Path, typer.Option("--file", help="The file of keys.")]
With = Annotated[str | None, typer.Option("--with", help="What is different: model=NAME.")]


class Unknown(StrEnum):
    """What a retry does with an effect of which nobody knows whether it happened."""

    fail = "fail"
    retry = "retry"


def main() -> None:
    """Run the command line; errors are one message, and exit status 1 (2: wrong usage)."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except CrewError as error:
        _complain(str(error))
        sys.exit(2 if isinstance(error, InputInvalid) else 1)
    except Exception as error:
        if (shown := getattr(error, "format_message", None)) is None:
            raise
        _complain(f"{shown()}; see `crew --help`")
        sys.exit(2)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    docs: Docs = None,
    thread: Thread = None,
    workflow: Workflow = "research",
    agents: Agents = None,
    store: Store = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    budget: Annotated[int | None, typer.Option(help="Tokens the run may spend.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a workflow one question, and watch it work.

    Example: crew ask "How much memory does an idle Ray actor use?" --docs docs
    """
    from serving.commands.asking import ask_once

    settings = _settings(store=store, agents=agents, docs=docs)
    _run(ask_once(question, workflow, settings, thread, key, budget, as_json=as_json))


@app.command()
def chat(
    docs: Docs = None,
    thread: Thread = None,
    workflow: Workflow = "research",
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Talk with a workflow, question after question; an empty line ends it.

    Example: crew chat --thread holidays
    """
    from serving.commands.asking import talk

    settings = _settings(store=store, agents=agents, docs=docs)
    _run(talk(workflow, settings, thread, as_json=as_json))


@app.command()
def serve(
    workflows: Annotated[list[str] | None, typer.Argument(help="What to serve.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None, typer.Option(help="Key of the tenant default, without limits.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--keys", help="File of keys, tenants and limits.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many processes serve.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Serve a workflow's file anew when it changes.")
    ] = False,
    on_ray: Annotated[
        bool, typer.Option("--ray", help="Serve from replicas on Ray Serve.")
    ] = False,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Serve workflows as tools, too, at /mcp.")
    ] = False,
    docs: Docs = None,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
    listener: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve workflows as models of an OpenAI-compatible endpoint.

    Without a key it listens on this machine only. With --keys each caller acts for the tenant of
    its key, within that key's limits; make keys with `crew keys new`. On SIGTERM it takes no new
    runs, ends open streams, and leaves runs under way to the next worker.

    Several --workers share the port and the store, and one that dies is replaced. With --ray they
    are replicas of the Ray Serve application `crew`. With --mcp each workflow is a tool of an MCP
    server, too.

    Example: crew serve research --port 8000
    """
    from serving.commands.deployed import serve_on_ray
    from serving.commands.server import serve_alone, serve_by_workers, served
    from serving.listening import fastest_loop

    settings = _settings(store=store, agents=agents, docs=docs)
    names = workflows or ["research"]
    what = served(names, settings, host, port, api_key or [], key_file, as_json=as_json, mcp=mcp)
    if listener is not None:
        _run(serve_alone(what, inherited=listener), loop=fastest_loop())
    elif on_ray:
        _run(serve_on_ray(what, replicas=workers, reload=reload))
    elif reload or workers > 1:
        _run(serve_by_workers(what, sys.argv[1:], count=workers, reload=reload))
    else:
        _run(serve_alone(what), loop=fastest_loop())


@app.command()
def index(
    folder: Annotated[str, typer.Argument(help="The folder of documents.")],
    as_json: AsJson = False,
) -> None:
    """Read a folder into its search index, or bring the index up to date.

    Example: crew index docs
    """
    from serving.commands.asking import index_folder

    _run(index_folder(folder, as_json=as_json))


@app.command()
def start(
    workflow: Annotated[str, typer.Argument(help="file.py:name, module:name, or bundled name.")],
    given: Annotated[
        str | None, typer.Option("--input", help="JSON, or text; - reads standard input.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key.")] = None,
    thread: Thread = None,
    metadata: Metadata = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it; or leave it to who serves it.")
    ] = True,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Start a run of a workflow, and follow it to its end; the same key is the same run.

    Example: crew start triage.py:triage --input '{"text": "my order"}' --key order-17
    """
    from serving.commands.starting import start_run

    settings = _settings(store=store, agents=agents)
    kept = metadata or []
    work = start_run(
        workflow, given, settings, key=key, thread=thread, metadata=kept, wait=wait, as_json=as_json
    )
    _run(work)


@app.command()
def retry(
    run: str,
    unknown: Annotated[
        Unknown, typer.Option(help="What becomes of an effect that may have happened.")
    ] = Unknown.fail,
    workflow: Code = None,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that failed or was cancelled, in a new one: what it finished stays.

    Steps that completed are not made again, and calls that came to a result are answered from its
    record; what failed is tried again, with the code as it is now.

    Example: crew retry r0123456789abcdef
    """
    from serving.commands.starting import retry_run

    settings = _settings(store=store, agents=agents)
    _run(retry_run(run, workflow, settings, unknown.value, as_json=as_json))


@app.command()
def runs(
    status: Status = None,
    thread: Thread = None,
    workflow: WorkflowName = None,
    since: Since = None,
    metadata: Metadata = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first.

    Example: crew runs --status running
    """
    from serving.commands.looking import list_runs
    from serving.commands.wanted import Wanted

    wanted = Wanted(status, thread, workflow, since, metadata or [])
    _run(list_runs(_settings(store=store), wanted, limit, as_json=as_json))


@app.command()
def export(
    jsonl: Annotated[bool, typer.Option("--jsonl", help="A run a line, as JSON.")] = False,
    messages: Annotated[
        bool, typer.Option("--messages", help="With its agents' messages, as for fine-tuning.")
    ] = False,
    status: Status = None,
    thread: Thread = None,
    workflow: WorkflowName = None,
    since: Since = None,
    metadata: Metadata = None,
    store: Store = None,
) -> None:
    """Write runs out: input, output or error, cost and times of each, the newest first.

    Example: crew export --jsonl --workflow triage --since 7d
    """
    from serving.commands.exporting import export_runs
    from serving.commands.wanted import Wanted

    wanted = Wanted(status, thread, workflow, since, metadata or [])
    _run(export_runs(_settings(store=store), wanted, messages=messages, jsonl=jsonl))


@app.command()
def show(run: str, store: Store = None, as_json: AsJson = False) -> None:
    """Show a run: its steps, its calls, where they ran, and its answer.

    Example: crew show r0123456789abcdef
    """
    from serving.commands.looking import show_run

    _run(show_run(run, _settings(store=store), as_json=as_json))


@app.command()
def resume(
    run: Annotated[str | None, typer.Argument(help="A run's id; all open ones without.")] = None,
    workflow: Workflow = "research",
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Go on with runs whose process died, from where their journals end.

    Example: crew resume
    """
    from serving.commands.asking import resume_runs

    _run(resume_runs(run, workflow, _settings(store=store, agents=agents), as_json=as_json))


@app.command()
def questions(
    to: Annotated[
        list[str] | None, typer.Option(help="For this role or name, or for nobody in particular.")
    ] = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(help="How many, of the newest runs first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the questions of runs that wait for an answer.

    Example: crew questions --to manager
    """
    from serving.commands.questions import list_questions

    _run(list_questions(_settings(store=store), to, limit, as_json=as_json))


@app.command()
def answer(
    run: str,
    key: str,
    value: str,
    by: Annotated[str | None, typer.Option(help="Who answers, for the record.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question that a run asks; the value is JSON, or else text.

    Example: crew answer r0123456789abcdef refund true --by eva
    """
    from serving.commands.looking import answer_run

    _run(answer_run(run, key, value, by, _settings(store=store), as_json=as_json))


@app.command()
def cancel(run: str, store: Store = None, as_json: AsJson = False) -> None:
    """Stop a run.

    Example: crew cancel r0123456789abcdef
    """
    from serving.commands.looking import cancel_run

    _run(cancel_run(run, _settings(store=store), as_json=as_json))


@app.command()
def tail(
    run: str,
    after: Annotated[int, typer.Option(help="The offset of the last event seen.")] = 0,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Follow a run's events, one a line, until it ends.

    Example: crew tail r0123456789abcdef --after 12
    """
    from serving.commands.looking import tail_run

    _run(tail_run(run, after, _settings(store=store), as_json=as_json))


@app.command()
def diff(run1: str, run2: str, store: Store = None, as_json: AsJson = False) -> None:
    """Compare two runs: their answers, their steps and calls, what each paid.

    Example: crew diff r0123456789abcdef rfedcba9876543210
    """
    from serving.commands.varying import diff_runs

    _run(diff_runs(run1, run2, _settings(store=store), as_json=as_json))


@app.command()
def fork(
    run: str,
    at: Annotated[int | None, typer.Option(help="The last event that both share.")] = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Make new calls.")] = True,
    effects: Annotated[
        bool, typer.Option("--effects/--no-effects", help="Let new effects happen.")
    ] = True,
    varied: With = None,
    workflow: Code = None,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run from a recorded one, that pays only for what is different.

    Example: crew fork r0123456789abcdef --with model=qwen3 --no-effects
    """
    from serving.commands.variants import model_named
    from serving.commands.varying import Variation, fork_run

    variation = Variation(at=at, live=live, effects=effects, model=model_named(varied))
    settings = _settings(store=store, agents=agents)
    _run(fork_run(run, workflow, settings, variation, as_json=as_json))


@app.command()
def replay(
    run: Annotated[str | None, typer.Argument(help="A run's id; or give --runs.")] = None,
    runs: Annotated[str | None, typer.Option(help="Many at once: last:50.")] = None,
    varied: With = None,
    allow_effects: Annotated[
        bool, typer.Option("--allow-effects", help="Let new effects of forks happen.")
    ] = False,
    workflow: Code = None,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded runs again on their records, without model, tool or effect.

    With --runs and --with, each is then forked with another model, and compared.

    Example: crew replay --runs last:50 --with model=qwen3
    """
    from serving.commands.cohort import replay_cohort
    from serving.commands.variants import model_named
    from serving.commands.varying import replay_run

    settings = _settings(store=store, agents=agents)
    if (run is None) == (runs is None):
        raise InputInvalid(message="give a run's id, or --runs last:50")
    if runs is not None:
        model = model_named(varied)
        work = replay_cohort(
            runs, workflow, settings, model, effects=allow_effects, as_json=as_json
        )
        _run(work)
        return
    if varied is not None or allow_effects:
        raise InputInvalid(
            message=f"a replay changes nothing; write crew fork {run} --with …, or --runs last:50"
        )
    _run(replay_run(str(run), workflow, settings, as_json=as_json))


@app.command()
def prune(
    older_than: Annotated[str | None, typer.Option(help="Such as 12h, 7d or 4w.")] = None,
    keep: Annotated[int | None, typer.Option(help="How many of the newest stay.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Remove runs and conversations that have ended and are old.

    Example: crew prune --older-than 30d
    """
    from serving.commands.keeping import prune_runs

    _run(prune_runs(_settings(store=store), older_than, keep, as_json=as_json))


@app.command()
def erase(
    thread: Thread = None,
    tenant: Annotated[str | None, typer.Option(help="Everything of this tenant.")] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Remove a conversation, or all of a tenant, to the last byte of the store's files.

    Example: crew erase --thread holidays
    """
    from serving.commands.keeping import erase_runs

    _run(erase_runs(_settings(store=store), thread, tenant, as_json=as_json))


@app.command()
def doctor(store: Store = None, as_json: AsJson = False) -> None:
    """Say what is in force on this machine, and check it.

    Example: crew doctor
    """
    from serving.commands.doctor import examine

    _run(examine(_settings(store=store), as_json=as_json))


@app.command()
def demo(
    docs: Docs = None,
    as_json: AsJson = False,
) -> None:
    """Play three acts on Ray: an answer, a killed host, a question that needs the first.

    Example: crew demo
    """
    from serving.commands.demo import play

    _run(play(_settings(docs=docs), as_json=as_json))


@models.callback()
def models_without_command(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that agents ask by name (`crew models` alone does), or fetch weights.

    Example: crew models list
    """
    if context.invoked_subcommand is None:
        list_models(as_json=as_json)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that agents ask by name, as crew.toml has them, and the default.

    Example: crew models list
    """
    from serving.commands.models import show_models

    show_models(_settings(), as_json=as_json)


@models.command()
def pull(
    name: Annotated[str, typer.Argument(help="GGUF file, or owner/repo/file.gguf.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fetch model weights; the embedded model's without a name.

    Example: crew models pull
    """
    from serving.commands.asking import pull_weights

    _run(pull_weights(name, as_json=as_json))


@keys.command("new")
def new_key(
    tenant: Annotated[str, typer.Option(help="Whose runs and threads it opens.")],
    name: Annotated[str | None, typer.Option(help="What the key is called.")] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Questions to it are answered with the key.")
    ] = None,
    file: KeyFile = Path("keys.toml"),
    as_json: AsJson = False,
) -> None:
    """Make a key, and print its secret: this once, only a hash is kept.

    Questions that are for a role (`ctx.ask(…, to="manager")`) are answered with its keys alone.

    Example: crew keys new --tenant acme --name eva --role manager
    """
    from serving.commands.keyring import make_key

    make_key(file, tenant, name, role or [], as_json=as_json)


@keys.command("list")
def list_keys(file: KeyFile = Path("keys.toml"), as_json: AsJson = False) -> None:
    """List the keys of a file, with their tenants and limits.

    Example: crew keys list
    """
    from serving.commands.keyring import show_keys

    show_keys(file, as_json=as_json)


def _settings(**given: str | None) -> Settings:
    return load_settings(**given)


def _run(
    work: Coroutine[Any, Any, int | None],
    *,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        status = runner.run(work)
    if status:
        raise typer.Exit(status)


def _complain(message: str) -> None:
    typer.echo(f"crew: {message}", err=True)


if __name__ == "__main__":
    main()
