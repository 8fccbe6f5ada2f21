"""A graph as a picture: its nodes in ranks, each with the state of its steps."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from crew.fold import Span
from crew.graph.workflow import Edge
from crew.notebook.markup import COLOURS, escape

WIDTH, HEIGHT, GAP_X, GAP_Y = 128, 34, 26, 30
_SHOWN_FIRST = ("failed", "unknown", "running", "again", "cancelled", "completed")
_NAME_CHARACTERS = 17


def picture(edges: Sequence[Edge], whole: Span) -> str:
    """Return a graph as SVG, with what its nodes' steps are at; nothing of one without edges."""
    if not edges:
        return ""
    ranks = _ranks(edges)
    places = _places(ranks)
    states = _states(whole)
    width = max(x for x, _ in places.values()) + WIDTH / 2 + 4
    height = max(y for _, y in places.values()) + HEIGHT / 2 + 4
    lines = [_arrow(edge, places) for edge in edges]
    boxes = [_box(name, place, states.get(name, Counter())) for name, place in places.items()]
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px;width:100%" '
        f'xmlns="http://www.w3.org/2000/svg" font-size="12" font-family="system-ui,sans-serif">'
        f"{''.join(lines)}{''.join(boxes)}</svg>"
    )


def _ranks(edges: Sequence[Edge]) -> Mapping[str, int]:
    """Return how far from the input each node is; an edge back to an earlier one counts nothing."""
    after: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        after[edge.giver].append(edge.taker)
    ranks, todo = {"input": 0}, ["input"]
    while todo:
        name = todo.pop(0)
        for taker in after[name]:
            if taker not in ranks:
                ranks[taker] = ranks[name] + 1
                todo.append(taker)
    for edge in edges:
        for name in (edge.giver, edge.taker):
            ranks.setdefault(name, 1)
    ranks["output"] = max(ranks.values()) + (ranks.get("output", 0) < max(ranks.values()))
    return ranks


def _places(ranks: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    by_rank: dict[int, list[str]] = defaultdict(list)
    for name, rank in ranks.items():
        by_rank[rank].append(name)
    widest = max(map(len, by_rank.values()))
    middle = widest * (WIDTH + GAP_X) / 2
    places = dict[str, tuple[float, float]]()
    for line, rank in enumerate(sorted(by_rank)):
        names = by_rank[rank]
        left = middle - len(names) * (WIDTH + GAP_X) / 2 + (WIDTH + GAP_X) / 2
        for column, name in enumerate(names):
            x = left + column * (WIDTH + GAP_X)
            places[name] = (x, 4 + HEIGHT / 2 + line * (HEIGHT + GAP_Y))
    return places


def _states(whole: Span) -> dict[str, Counter[str]]:
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for step in whole.children:
        states[step.name][step.outcome] += 1
    states["input"]["completed"] += 1
    if whole.outcome == "completed":
        states["output"]["completed"] += 1
    return states


def _box(name: str, place: tuple[float, float], counts: Counter[str]) -> str:
    state = next((item for item in _SHOWN_FIRST if counts[item]), "idle")
    colour, (x, y) = COLOURS[state], place
    is_end = name in ("input", "output")
    many = "" if is_end or counts.total() < 2 else f" {counts['completed']}/{counts.total()}"
    text = name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
    return (
        f'<g><title>{escape(name)}</title><rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="{17 if is_end else 7}" fill="{colour}" '
        f'fill-opacity=".12" stroke="{colour}"/><text x="{x:.0f}" y="{y + 4:.0f}" '
        f'text-anchor="middle" fill="currentColor">{escape(text + many)}</text></g>'
    )


def _arrow(edge: Edge, places: Mapping[str, tuple[float, float]]) -> str:
    (x, y), (to_x, to_y) = places[edge.giver], places[edge.taker]
    start, end = y + HEIGHT / 2, to_y - HEIGHT / 2
    if to_y <= y:  # back to an earlier node, or to itself: around its side
        side = max(x, to_x) + WIDTH / 2 + GAP_X / 2
        path = f"M{x + WIDTH / 2:.0f} {y:.0f} C{side:.0f} {y:.0f} {side:.0f} {to_y:.0f} "
        path += f"{to_x + WIDTH / 2:.0f} {to_y + 6:.0f}"
        tip = ""
    else:
        half = (start + end) / 2
        path = (
            f"M{x:.0f} {start:.0f} C{x:.0f} {half:.0f} {to_x:.0f} {half:.0f} {to_x:.0f} {end:.0f}"
        )
        tip = f'<path d="M{to_x - 4:.0f} {end - 6:.0f}L{to_x:.0f} {end:.0f}L{to_x + 4:.0f} '
        tip += f'{end - 6:.0f}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
    shown = f"{'many ' if edge.is_list else ''}{edge.type}"
    return (
        f'<g><title>{escape(shown)}</title><path d="{path}" fill="none" stroke="currentColor" '
        f'stroke-opacity=".4"/>{tip}</g>'
    )
