"""HTML for cells of a notebook: escaped, and styled in place, as front ends drop style sheets."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["badge", "block", "escape", "money", "row", "shortened", "table"]

COLOURS = {
    "running": "#b7791f",
    "again": "#8250df",
    "waiting": "#0969da",
    "completed": "#1a7f37",
    "failed": "#cf222e",
    "refused": "#cf222e",
    "unknown": "#cf222e",
    "cancelled": "#7d8590",
    "idle": "#9aa2ab",
}
"""What states look like; readable on white and on black."""
FONT = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45"
_CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;background:none"
_MOST_CHARACTERS = 160


def block(*parts: str) -> str:
    """Return parts, beneath each other."""
    inner = "".join(f'<div style="margin:4px 0">{part}</div>' for part in parts if part)
    return f'<div style="{FONT};max-width:960px">{inner}</div>'


def badge(state: str, text: str = "") -> str:
    """Return a state, in its colour."""
    colour = COLOURS.get(state, COLOURS["idle"])
    return (
        f'<span style="color:{colour};border:1px solid {colour};border-radius:9px;padding:0 7px;'
        f'white-space:nowrap">{escape(text or state)}</span>'
    )


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of rows that `row` made."""
    cells = "".join(f'<th style="{_CELL};opacity:.65;font-weight:500">{name}</th>' for name in head)
    return (
        f'<table style="border-collapse:collapse;{FONT};margin:0"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def row(*cells: str) -> str:
    """Return a row of a table; its cells are HTML."""
    inner = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f'<tr style="background:none">{inner}</tr>'


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Return the beginning of a text, escaped."""
    return escape(text if len(text) <= most else f"{text[: most - 1]}…")


def money(amount: float) -> str:
    """Return money, in the currency of the prices; nothing where it is none."""
    return f"{amount:.6f}".rstrip("0").rstrip(".") if amount else ""
