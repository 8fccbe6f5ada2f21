"""Figures: the numbers that stand in a text, with their units, and what two of them make."""

import math
import re
from collections.abc import Iterable, Sequence

from crew.define import frozen

_FIGURE = re.compile(
    r"(?<![\w.])(?P<number>\d{1,3}(?:[,_ ]\d{3})+(?!\d)|\d++)(?P<rest>\.\d++)?(?P<exponent>e\d++)?"
    r"(?!\.?\d)(?:[\s-]?(?P<unit>%|[^\W\d_]+))?"
)
_SPELLED = {
    "half": "0.5", "twice": "2", "double": "2", "two": "2", "three": "3", "thrice": "3",
    "triple": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "dozen": "12", "twenty": "20", "fifty": "50", "hundred": "100",
    "thousand": "1000", "million": "1000000", "billion": "1000000000", "quarter": "0.25",
}  # fmt: skip
_DIVISORS = {"half": 2.0, "third": 3.0, "quarter": 4.0}
_MULTIPLIERS = frozenset({"half", "twice", "double", "thrice", "triple", "quarter"})
QUANTITIES = frozenset(_SPELLED)
"""Words that are figures; a source need not hold those of a question."""

_GROUPED = {"k": 1e3, "thousand": 1e3, "million": 1e6, "billion": 1e9}

_SECONDS = {
    "ms": 0.001, "millisecond": 0.001, "milliseconds": 0.001, "s": 1, "sec": 1, "second": 1,
    "seconds": 1, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600, "hours": 3600,
    "day": 86400, "days": 86400, "week": 604800, "weeks": 604800,
}  # fmt: skip
_BYTES = {
    f"{prefix}{'i' * binary}b": float((1024 if binary else 1000) ** power)
    for power, prefix in enumerate(("", "k", "m", "g", "t", "p"))
    for binary in (False, True)
    if power or not binary
}
_SCALES: dict[str, tuple[str, float]] = (
    {unit: ("time", float(scale)) for unit, scale in _SECONDS.items()}
    | {unit: ("memory", scale) for unit, scale in _BYTES.items()}
    | dict.fromkeys(("%", "percent"), ("share", 0.01))
)
_VERBS = "fit|can|could|do|does|are|is|will|would|may|run|go|have|need|take|in|of|per|with|at|on"
_COUNTED = re.compile(
    rf"\b(?:how many|\d) ((?!(?:{_VERBS})\b)(?:[a-z][\w-]+ ){{0,2}}?[a-z][\w-]+)"
    rf"(?: (?:{_VERBS})\b|\W*$)",
    re.IGNORECASE,
)
_AMOUNT = r"\d\S*(?:\s[^\W\d]+)?"
_EACH = re.compile(
    rf"\b(?:of|at|takes?|needs?|uses?) (?:about )?{_AMOUNT}|{_AMOUNT} (?:each|apiece|per)\b"
)
_MEASURES = {
    "memory": frozenset({"memory", "ram", "disk", "storage", "space", "bytes", "volume"}),
    "time": frozenset({"long", "time", "seconds", "minutes", "hours", "days", "soon", "wait"}),
    "share": frozenset({"percent", "percentage", "share"}),
}
_FACTORS = {
    "memory": tuple(float(base**power) for base in (1000, 1024) for power in range(5)),
    "time": (1.0, 60.0, 3600.0, 86400.0, 1000.0, 1e6, 24.0, 1440.0),
    "share": (1.0, 100.0),
}
_CONVERSIONS: tuple[tuple[frozenset[float], str], ...] = (
    (frozenset(1000.0**n for n in range(1, 5)), r"[kmgtp]i?b|bytes?|ms|milli\w*|kilo\w*|micro\w*"),
    (frozenset(1024.0**n for n in range(1, 5)), r"[kmgtp]i?b|bytes?"),
    (frozenset({60.0, 3600.0}), r"s|sec|min|h|seconds?|minutes?|hours?"),
    (frozenset({24.0, 1440.0, 86400.0}), r"days?|hours?|daily|hourly"),
    (frozenset({7.0}), r"weeks?|weekly"),
    (frozenset({12.0}), r"months?|monthly|years?|yearly"),
    (frozenset({365.0}), r"years?|yearly|annual\w*"),
    (frozenset({100.0}), r"%|percent\w*|share"),
    (frozenset({8.0}), r"bits?|[kmg]?bps"),
)


@frozen
class Figure:
    """A number as it stands in a text.

    `number` is a Python literal, `unit` the word after it, `kind` what the unit measures
    ("memory", "time", "share"; "count" for everything else), `scale` the unit in the kind's base
    unit (bytes, seconds).
    """

    number: str
    unit: str = ""
    kind: str = "count"
    scale: float = 1.0

    @property
    def value(self) -> float:
        return float(self.number)


def figures(text: str) -> list[Figure]:
    """Return the figures of `text` in digits, in order; version numbers such as 2.60.1 are none."""
    found = []
    for match in _FIGURE.finditer(text):
        number = re.sub("[,_ ]", "", match["number"]) + (match["rest"] or "")
        number = number.lstrip("0") if not match["rest"] and number.strip("0") else number
        unit = match["unit"] or ""
        kind, scale = _SCALES.get(unit.lower(), ("count", 1.0))
        found.append(Figure(number + (match["exponent"] or ""), unit, kind, scale))
    return found


def standing_values(text: str) -> set[float]:
    """Return every number `text` holds, in digits or in English words."""
    values = set()
    for figure in figures(text):
        values |= {figure.value, figure.value * _GROUPED.get(figure.unit.lower(), 1.0)}
    words = set(re.findall(r"[a-z]+", text.lower()))
    values |= {float(value) for word, value in _SPELLED.items() if word in words}
    return values | {value for word, value in _DIVISORS.items() if word in words}


def stands(value: float, texts: Iterable[str]) -> bool:
    """Tell whether the number stands in one of `texts`."""
    return any(math.isclose(value, held) for text in texts for held in standing_values(text))


def is_conversion(value: float, texts: Sequence[str]) -> bool:
    """Tell whether the number converts units that one of `texts` speaks of (60 where it says s)."""
    pattern = "|".join(f"(?:{units})" for factors, units in _CONVERSIONS if value in factors)
    if not pattern:
        return False
    whole = re.compile(rf"(?<![^\W\d_])(?:{pattern})(?![^\W\d_])", re.IGNORECASE)
    return any(whole.search(text) for text in texts)


def is_figure(value: float, figure: Figure) -> bool:
    """Tell whether the number is that figure, as it stands or in another unit (8e9 for 8 GB)."""
    factors = _FACTORS.get(figure.kind, (1.0,))
    same = [
        math.isclose(value, figure.value * f) or math.isclose(value * f, figure.value)
        for f in factors
    ]
    return any(same)


def required(question: str) -> list[Figure]:
    """Return what a calculation for `question` must use: the figures of its last part that has any.

    Measures count, and counts of something (200 actors); a bare number may be a version.
    """
    parts = [found for part in re.split(r"[?.]\s", question) if (found := figures(part))]
    factors = [Figure(number) for number in multipliers(question)]
    last = [f for f in (parts[-1] if parts else []) if f.kind != "count" or f.unit]
    return [*last, *factors]


def is_about(quote: str, question: str) -> bool:
    """Tell whether a quote names what the question counts; its figures may else be of anything."""
    counted = _counted(question)
    return not counted or counted.split()[-1].lower().rstrip("s") in quote.lower()


def multipliers(question: str) -> list[str]:
    """Return `twice`, `half` and their like as Python literals, in order.

    Those before the question's last figure are left out: `in twice that? and in 32 GB?`.
    """
    parts = re.split(r"[?.]\s", question)
    last = max((at for at, part in enumerate(parts) if figures(part)), default=0)
    words = re.findall(r"[a-z]+", " ".join(parts[last:]).lower())
    return [_SPELLED[word] for word in words if word in _MULTIPLIERS]


def suggestion(question: str, quotes: Sequence[str]) -> tuple[str, str]:
    """Return one line of Python that may answer `question`, and its result's unit; "" if none fits.

    Figures of one kind are divided (8 GB by 47 MB: how many fit), a count and a measure are
    multiplied (200 of 47 MB each: how much together), after `twice` and its like. The question's
    last figure of a kind counts, against what it says is `each`, or else the first of the quotes
    that fits. A model may well do better: one that cannot calculate starts from here.
    """
    each = [figure for match in _EACH.finditer(question) for figure in figures(match[0])]
    asked = {f.kind: f for f in figures(question) if f not in each or f.kind == "count"}
    wanted, counted = _measure(question), _counted(question)
    about = [quote for quote in quotes if is_about(quote, question)]
    given = [*each, *(figure for quote in about for figure in figures(quote))]
    for figure in given:
        if figure.kind in wanted and (made := _combine(asked, figure)):
            unit = counted if "//" in made else figure.unit
            return f"print({' * '.join([*multipliers(question), made])})", unit
    return _times_each(question, quotes)


def _measure(question: str) -> set[str]:
    """Return the kinds of figure that the question's last part is about; all if it does not say."""
    for part in reversed(re.split(r"[?.]\s", question)):
        words = set(re.findall(r"[a-z]+", part.lower()))
        kinds = {kind for kind, named in _MEASURES.items() if words & named}
        kinds |= {figure.kind for figure in figures(part) if figure.kind != "count"}
        if kinds:
            return kinds
    return set(_MEASURES)


def _counted(question: str) -> str:
    """Return what is counted: the Ray actors of `how many Ray actors fit`, of `200 Ray actors`."""
    found = [match[1] for match in _COUNTED.finditer(question)]
    return next((words for words in found if words.split()[0].lower() not in _SCALES), "")


def _times_each(question: str, quotes: Sequence[str]) -> tuple[str, str]:
    """Multiply a count of the question by what a text says of one: 12 replicas, 5 a replica."""
    counts = [figure for figure in figures(question) if figure.kind == "count" and figure.unit]
    for many in reversed(counts):
        one = re.compile(
            rf"\b(?:an?|each|every|one|per) (?:[\w-]+ ){{0,2}}{many.unit.rstrip('s')}\b",
            re.IGNORECASE,
        )
        for text in (question, *quotes):
            if match := one.search(text):
                of_one = [f for f in figures(text[match.end() :]) if f.unit and f != many]
                if of_one:
                    line = " * ".join([*multipliers(question), many.number, of_one[0].number])
                    return f"print({line})", of_one[0].unit
    return "", ""


def _combine(asked: dict[str, Figure], given: Figure) -> str:
    same, count = asked.get(given.kind), asked.get("count")
    if same is not None and same != given:
        return _division(same, given)
    return f"{count.number} * {given.number}" if count is not None else ""


def _division(whole: Figure, part: Figure) -> str:
    if whole.scale == part.scale:
        return f"{whole.number} // {part.number}"
    ratio = whole.scale / part.scale
    if ratio.is_integer():
        return f"{whole.number} * {int(ratio)} // {part.number}"
    return f"{whole.number} * {int(whole.scale)} // ({part.number} * {int(part.scale)})"
