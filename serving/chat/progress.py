"""A run's events as lines for somebody who watches."""

import json

from crew.event import Event

__all__ = ["progress_line"]

_MAX_ARGUMENT_CHARACTERS = 120


def progress_line(event: Event) -> str:
    """One line, ended, about an event; empty for what is not worth one."""
    data = event.data
    match event.kind:
        case "step.started":
            return f"▸ {event.path}\n"
        case "step.failed":
            again = "" if data.get("final") else "; trying again"
            return f"✗ {event.path}: {_message(data)}{again}\n"
        case "agent.started":
            return f"  {data.get('agent', event.path)}\n"
        case "tool.started":
            return f"  {data.get('tool', event.path)} {_short(data.get('arguments'))}\n"
        case "tool.failed" | "agent.failed" | "model.failed" | "effect.failed":
            return f"  ✗ {event.path}: {_message(data)}\n"
        case "child.started":
            return f"▸ {event.path} (a run of its own)\n"
        case "progress.made":
            return f"  {data.get('text', '')}\n"
        case "run.taken" if event.offset > 2:  # whoever drives a run first takes it as its second
            return "  another worker goes on with this run\n"
        case _:
            return ""


def _message(data: dict[str, object]) -> str:
    error = data.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _short(arguments: object) -> str:
    text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
    cut = len(text) > _MAX_ARGUMENT_CHARACTERS
    return f"{text[:_MAX_ARGUMENT_CHARACTERS]}…" if cut else text
