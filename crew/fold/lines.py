"""What is said of an event to whoever watches a run."""

import json

from crew.define import define
from crew.event import (
    CallFailed,
    CallStarted,
    ProgressMade,
    RunEvent,
    RunTaken,
    StepFailed,
    StepStarted,
)
from crew.fold.tally import is_takeover
from crew.message import Json

_MAX_ARGUMENT_CHARACTERS = 120


def progress_line(event: RunEvent, offset: int) -> str:
    """Return one line, ended, about an event; empty for what is not worth one."""
    match event:
        case StepStarted(path=path):
            return f"▸ {path}\n"
        case StepFailed(path=path, error=error, final=final):
            return f"✗ {path}: {error.message}{'' if final else '; trying again'}\n"
        case CallStarted(path=path, call="agent", data=data):
            return f"  {data.get('agent', path)}\n"
        case CallStarted(path=path, call="tool", data=data):
            return f"  {data.get('tool', path)} {_short(data.get('arguments'))}\n"
        case CallStarted(path=path, call="child"):
            return f"▸ {path} (a run of its own)\n"
        case CallFailed(path=path, call="tool" | "agent" | "model" | "effect", error=error):
            return f"  ✗ {path}: {error.message}\n"
        case ProgressMade(text=text):
            return f"  {text}\n"
        case RunTaken() if is_takeover(offset):
            return "  another worker goes on with this run\n"
        case _:
            return ""


@define
class Remarks:
    """What else than steps and calls is said of a run to whoever follows it on a screen.

    `progress` is the latest line that its code gave.
    """

    progress: str = ""

    def apply(self, event: RunEvent, offset: int, at: float) -> str:
        """Take in an event; return a line about it, or nothing."""
        match event:
            case ProgressMade(path=path, text=text):
                self.progress = text
                return f"{path.partition('/')[0]}: {text}"
            case CallStarted(call="ask", data=data):
                whom = f" {data['to']}" if "to" in data else ""
                return f"asks{whom}: {data['question']} (crew answer RUN {data['key']} VALUE)"
            case RunTaken(host=host, pid=pid):
                word = "taken over" if is_takeover(offset) else "driven"
                return f"{word} by process {pid} on {host}"
            case _:
                return ""


def _short(arguments: Json) -> str:
    text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
    cut = len(text) > _MAX_ARGUMENT_CHARACTERS
    return f"{text[:_MAX_ARGUMENT_CHARACTERS]}…" if cut else text
