"""The coder: writes the Python that works a number out, checked before and after it ran."""

import ast
import math
import re
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, Field

from crew.agent import Agent
from crew.errors import SandboxUnavailable
from crew.team.charter import CHARTER
from crew.team.figures import (
    figures,
    is_about,
    is_conversion,
    is_figure,
    multipliers,
    required,
    stands,
    suggestion,
)
from crew.team.searcher import Quote
from crew.team.summariser import Claim
from crew.team.words import content_words, coverage

_MOST_PRINTED = 300


class Ran(BaseModel):
    """What code printed, or the error that kept it from printing a result."""

    printed: str = ""
    error: str = ""


class Code(BaseModel):
    """What the coder answers: a few lines that print one number, and the number's unit."""

    code: str = Field(max_length=1500)
    unit: str = Field(default="", max_length=40)


# The example's figures are odd ones: a weak model that copies it is caught by the checks.
coder = Agent(
    "coder",
    instructions=CHARTER
    + """You write Python that prints the number asked for. Every figure in it must stand in the \
text or the question; unit conversions may be added. The suggestion may be right or wrong. Where \
nothing is to be calculated, the code is "".
Text: A crate weighs 397 kg.
Suggestion: print(9100 // 397)
Question: How many crates fit in 9100 kg?
{"code":"print(9100 // 397)","unit":"crates"}""",
    output=Code,
    max_tokens=400,
    temperature=0.0,
)


def coder_prompt(goal: str, question: str, quotes: Sequence[str]) -> str:
    """Lay out what the coder works with: the quotes, a suggestion if there is one, the goal."""
    lines = [f"Text: {' '.join(quotes)}"]
    hint, _ = suggestion(question, quotes)
    if hint:
        lines.append(f"Suggestion: {hint}")
    return "\n".join([*lines, f"Question: {goal}"])


def refusal(code: str, texts: Sequence[str]) -> str:
    """Return why `code` must not run or be believed, or "" if its figures are all accounted for.

    A figure is accounted for if it stands in one of `texts` (the question, the conversation, the
    quotes) or converts units they speak of; 0, 1 and the digits of `round` need no source. Numbers
    inside strings count too, since they are printed like results.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        return f"it is no Python: {error}"
    if not any(isinstance(node, ast.BinOp | ast.AugAssign) for node in ast.walk(tree)):
        return "it calculates nothing"
    used = list(_figures_in(tree))
    unknown = [value for value in used if not _accounted_for(value, texts)]
    if unknown:
        return f"the figure {unknown[0]:g} stands neither in the question nor in a source"
    return _unconverted(used, texts)


def runnable(
    written: Code, question: str, earlier: Sequence[str], quotes: Sequence[str]
) -> tuple[list[Code], str]:
    """Return the code that may run, the coder's own first, then the suggestion; and a refusal.

    The coder's unit is kept if its words stand in one of the texts. The refusal says why its code
    may not run, or is empty.
    """
    texts = [question, *earlier, *quotes]
    reason = (
        refusal(written.code, texts)
        or _forgotten(written.code, question)
        or _lonely(written.code, question, texts)
    )
    hint, hint_unit = suggestion(question, quotes)
    known = coverage(content_words(written.unit), " ".join(texts)) == 1
    unit = hint_unit if written.code == hint else written.unit if known else ""
    own = [] if reason else [Code(code=written.code, unit=unit)]
    other = [Code(code=hint, unit=hint_unit)] if hint not in ("", written.code) else []
    return [*own, *(code for code in other if not refusal(code.code, texts))], reason


async def run_code(code: str) -> Ran:
    """Run checked code in the sandbox; what it printed counts if it is short and holds a number."""
    from crew.sandbox import open_sandbox

    try:
        execution = await open_sandbox().run(code)
    except SandboxUnavailable as error:
        return Ran(error=str(error))
    printed = execution.stdout.strip()
    if execution.error:
        return Ran(error=execution.error.strip().splitlines()[-1])
    if len(printed) > _MOST_PRINTED or not re.search(r"\d", printed):
        return Ran(error=f"it printed no short number: {printed[:80]!r}")
    return Ran(printed=printed)


def worked_out(code: Code, ran: Ran, question: str, quotes: Sequence[Quote]) -> Claim:
    """Return the number as a claim, with its code and the quotes its figures come from."""
    used = [quotes[at] for at in _holders(code.code, question, [quote.text for quote in quotes])]
    text = "; ".join(line.strip() for line in ran.printed.splitlines() if line.strip())
    text = re.sub(r"\d+\.\d{5,}", lambda match: f"{float(match.group()):.6g}", text)
    text = re.sub(r"(\d)\.0\b", r"\1", text)
    if code.unit and not re.search(r"[^\W\d_]", text):
        text = f"{text} {code.unit}"
    return Claim(text=text, quotes=used, code=code.code, printed=ran.printed)


def _forgotten(code: str, question: str) -> str:
    """Refuse code that leaves out a figure of the question, or its `twice` or `half`."""
    used = list(_figures_in(ast.parse(code)))
    for figure in required(question):
        inverse = 1 / figure.value if figure.value else 0.0
        if not any(is_figure(value, figure) or math.isclose(value, inverse) for value in used):
            return f"it leaves out the {figure.number} {figure.unit}".rstrip() + " of the question"
    return ""


def _lonely(code: str, question: str, texts: Sequence[str]) -> str:
    """Refuse code that joins no two figures: converting and doubling alone answers nothing."""
    factors = {float(number) for number in multipliers(question)}
    given = {value for value in _figures_in(ast.parse(code)) if value not in factors | {0, 1}}
    measured = [figure for text in texts for figure in figures(text)]
    joined = [
        value
        for value in given
        if any(figure.value == value for figure in measured) or not is_conversion(value, texts)
    ]
    return "" if len(joined) > 1 else "it joins no two figures of the question or a source"


def _holders(code: str, question: str, quotes: Sequence[str]) -> list[int]:
    """Return the positions of the quotes that the code's figures come from, in order.

    Of several quotes that hold a figure the first counts. One of the question needs no quote, and
    gets one only if that has its unit, too.
    """
    places = set()
    texts = [question, *quotes]
    for value in _figures_in(ast.parse(code)):
        if is_conversion(value, texts):
            continue
        units = {f.unit for f in figures(question) if f.value == value and f.kind != "count"}
        for at, quote in enumerate(quotes):
            held = {figure.unit for figure in figures(quote) if figure.value == value}
            proves = units & held and is_about(quote, question)
            if proves or (not stands(value, [question]) and stands(value, [quote])):
                places.add(at)
                break
    return sorted(places)


def _accounted_for(value: float, texts: Sequence[str]) -> bool:
    known = value in (0, 1) or stands(value, texts) or is_conversion(value, texts)
    return known or any(is_figure(value, figure) for text in texts for figure in figures(text))


def _unconverted(used: Sequence[float], texts: Sequence[str]) -> str:
    """Refuse GB by MB and their like, where nothing in the code converts one to the other."""
    if any(is_conversion(value, texts) for value in used):
        return ""
    known = [figure for text in texts for figure in figures(text) if figure.value in used]
    for figure in known:
        for other in known:
            if figure.kind == other.kind != "count" and figure.scale != other.scale:
                return f"{figure.unit} and {other.unit} meet in it unconverted"
    return ""


def _figures_in(tree: ast.AST) -> Iterator[float]:
    """Yield the numbers written in the code, powers of constants (10**9) as one number."""
    if (power := _constant_power(tree)) is not None:
        yield power
        return
    match tree:
        case ast.Constant(value=bool() | None):
            return
        case ast.Constant(value=int() | float() as number):
            yield abs(float(number))
        case ast.Constant(value=str() as text):
            yield from (float(found) for found in re.findall(r"\d+(?:\.\d+)?", text))
        case ast.Call(func=ast.Name(id="round"), args=[value, _]):
            yield from _figures_in(value)
        case ast.FormattedValue(value=value):
            yield from _figures_in(value)
        case ast.Subscript(value=value):
            yield from _figures_in(value)
        case _:
            for child in ast.iter_child_nodes(tree):
                yield from _figures_in(child)


def _constant_power(tree: ast.AST) -> float | None:
    match tree:
        case ast.BinOp(
            left=ast.Constant(value=int() as base),
            op=ast.Pow(),
            right=ast.Constant(value=int() as exponent),
        ) if 0 <= exponent <= 12 and abs(base) <= 1024:
            return float(base**exponent)
    return None
