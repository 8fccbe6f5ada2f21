"""The `crew` command: each command parses, calls one function, and prints."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from crew.config import Settings, load_settings
from crew.errors import CrewError, InputInvalid

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Teams of LLM agents that do not lose work.",
)
models = typer.Typer(no_args_is_help=True, help="Model weights on this machine.")
app.add_typer(models, name="models")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Store = Annotated[str | None, typer.Option(help="Where runs are kept: sqlite:///path.")]
Agents = Annotated[str | None, typer.Option(help="Where agents run: local or ray.")]
Docs = Annotated[str | None, typer.Option(help="Folder of documents that answer.")]
Thread = Annotated[str | None, typer.Option(help="The conversation this is a turn of.")]
Change = Annotated[list[str] | None, typer.Option("--with", help="A change: model=NAME.")]
Workflow = Annotated[str, typer.Option(help="Bundled name, file.py, or module:name.")]


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
    from serving.asking import ask_once

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
    from serving.asking import talk

    settings = _settings(store=store, agents=agents, docs=docs)
    _run(talk(workflow, settings, thread, as_json=as_json))


@app.command()
def serve(
    workflows: Annotated[list[str] | None, typer.Argument(help="What to serve.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[list[str] | None, typer.Option(help="Key a caller must have.")] = None,
    docs: Docs = None,
    agents: Agents = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Serve workflows as models of an OpenAI-compatible chat endpoint.

    Example: crew serve research --port 8000
    """
    from serving.server import serve_workflows

    settings = _settings(store=store, agents=agents, docs=docs)
    names = workflows or ["research"]
    _run(serve_workflows(names, settings, host, port, api_key or [], as_json=as_json))


@app.command()
def index(
    folder: Annotated[str, typer.Argument(help="The folder of documents.")],
    as_json: AsJson = False,
) -> None:
    """Read a folder into its search index, or bring the index up to date.

    Example: crew index docs
    """
    from serving.asking import index_folder

    _run(index_folder(folder, as_json=as_json))


@app.command()
def runs(
    status: Annotated[str | None, typer.Option(help="running, waiting, completed, …")] = None,
    thread: Thread = None,
    store: Store = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first.

    Example: crew runs --status running
    """
    from serving.looking import list_runs

    _run(list_runs(_settings(store=store), status, thread, limit, as_json=as_json))


@app.command()
def show(run: str, store: Store = None, as_json: AsJson = False) -> None:
    """Show a run: its steps, its calls, where they ran, and its answer.

    Example: crew show r0123456789abcdef
    """
    from serving.looking import show_run

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
    from serving.asking import resume_runs

    _run(resume_runs(run, workflow, _settings(store=store, agents=agents), as_json=as_json))


@app.command()
def answer(run: str, key: str, value: str, store: Store = None, as_json: AsJson = False) -> None:
    """Answer a question that a run asks; the value is JSON, or else text.

    Example: crew answer r0123456789abcdef refund true
    """
    from serving.looking import answer_run

    _run(answer_run(run, key, value, _settings(store=store), as_json=as_json))


@app.command()
def cancel(run: str, store: Store = None, as_json: AsJson = False) -> None:
    """Stop a run.

    Example: crew cancel r0123456789abcdef
    """
    from serving.looking import cancel_run

    _run(cancel_run(run, _settings(store=store), as_json=as_json))


@app.command()
def tail(
    run: str,
    after: Annotated[int, typer.Option(help="The offset of the last event seen.")] = 0,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Print a run's events as they are recorded, to its end.

    Example: crew tail r0123456789abcdef --after 12
    """
    from serving.varying import tail_run

    _run(tail_run(run, _settings(store=store), after, as_json=as_json))


@app.command()
def fork(
    run: str,
    at: Annotated[int | None, typer.Option(help="The last event they share.")] = None,
    change: Change = None,
    live: Annotated[bool, typer.Option(help="Make calls that have no record.")] = True,
    effects: Annotated[bool, typer.Option(help="Let new effects happen.")] = True,
    workflow: Workflow = "research",
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run from a prefix of another; only what differs is paid.

    Example: crew fork r0123456789abcdef --with model=qwen3
    """
    from serving.varying import fork_run

    settings = _settings(store=store)
    work = fork_run(
        run, workflow, settings, at, change or [], live=live, effects=effects, as_json=as_json
    )
    _run(work)


@app.command()
def replay(
    run: Annotated[str | None, typer.Argument(help="A run's id, or --runs.")] = None,
    cohort: Annotated[str | None, typer.Option("--runs", help="Such as last:50.")] = None,
    change: Change = None,
    allow_effects: Annotated[bool, typer.Option(help="Let new effects happen.")] = False,
    workflow: Workflow = "research",
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Run recorded runs again on their records; with a change, compare what it does to them.

    Example: crew replay --runs last:50 --with model=qwen3
    """
    from serving.varying import replay_run, replay_runs

    settings = _settings(store=store)
    if (run is None) == (cohort is None):
        raise InputInvalid(message="say what to replay: a run's id, or --runs last:50")
    if cohort is not None:
        _run(
            replay_runs(
                cohort,
                workflow,
                settings,
                change or [],
                allow_effects=allow_effects,
                as_json=as_json,
            )
        )
    elif run is not None:
        _run(replay_run(run, workflow, settings, as_json=as_json))


@app.command()
def diff(first: str, second: str, store: Store = None, as_json: AsJson = False) -> None:
    """Say what differs between two runs: answers, calls, tokens.

    Example: crew diff r0123456789abcdef rfedcba9876543210
    """
    from serving.varying import diff_runs

    _run(diff_runs(first, second, _settings(store=store), as_json=as_json))


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
    from serving.keeping import prune_runs

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
    from serving.keeping import erase_runs

    _run(erase_runs(_settings(store=store), thread, tenant, as_json=as_json))


@app.command()
def doctor(store: Store = None, as_json: AsJson = False) -> None:
    """Say what is in force on this machine, and check it.

    Example: crew doctor
    """
    from serving.doctor import examine

    _run(examine(_settings(store=store), as_json=as_json))


@app.command()
def demo(
    docs: Docs = None,
    as_json: AsJson = False,
) -> None:
    """Play three acts on Ray: an answer, a killed host, a question that needs the first.

    Example: crew demo
    """
    from serving.demo import play

    _run(play(_settings(docs=docs), as_json=as_json))


@models.command()
def pull(
    name: Annotated[str, typer.Argument(help="GGUF file, or owner/repo/file.gguf.")] = "",
    as_json: AsJson = False,
) -> None:
    """Fetch model weights; the embedded model's without a name.

    Example: crew models pull
    """
    from serving.asking import pull_weights

    _run(pull_weights(name, as_json=as_json))


def _settings(**given: str | None) -> Settings:
    return load_settings(**given)


def _run(work: Coroutine[Any, Any, int | None]) -> None:
    status = asyncio.run(work)
    if status:
        raise typer.Exit(status)


def _complain(message: str) -> None:
    typer.echo(f"crew: {message}", err=True)


if __name__ == "__main__":
    main()
