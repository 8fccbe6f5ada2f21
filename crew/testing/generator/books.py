"""What the models of a program count, and what its journals and accounts say of that."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from crew.budget import Budget
from crew.journal import OPEN, RunRow, Store
from crew.message import Json

MOST_OUTPUT = 16
"""Tokens that an answer may take."""


@dataclass(slots=True)
class Books:
    """What models and budgets were asked for, in all lives of a program.

    Calls of models are known by their names, `model:site.m0`; a site's are all whose own begins
    with it.
    """

    budgets: dict[str, Budget] = field(default_factory=dict)
    """By the sites of what may spend so much; the program's own is at none."""
    inputs: dict[str, int] = field(default_factory=dict)
    """The tokens of requests, as the engine counts them."""
    paid: Counter[str] = field(default_factory=Counter)
    """The tokens that models computed."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was recorded: in unix seconds, and where."""

    at: float
    run: int
    offset: int

    def is_before(self, other: "Moment") -> bool:
        """Whether this was first; of one time in two runs nobody can tell, so it may have been."""
        if self.run == other.run:
            return self.offset < other.offset
        return self.at <= other.at


@dataclass(slots=True)
class Request:
    """What was reserved for a call of a model, and in the end paid."""

    name: str
    when: Moment
    cost: int
    is_lost: bool = False
    """Whether its process ended before an answer, so that it costs what was reserved."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call of a model that a budget had too little left for."""

    name: str
    when: Moment
    unit: str


@dataclass(slots=True)
class Span:
    """From when to when an agent was under way, at which site."""

    site: str
    path: str
    begin: Moment
    end: Moment | None = None

    def is_at(self, when: Moment) -> bool:
        return self.begin.is_before(when) and (self.end is None or when.is_before(self.end))


@dataclass(slots=True)
class Bills:
    """What the journals of a program say of its calls of models."""

    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)
    """Where each run was called, by its number; the program at none."""
    above: dict[int, frozenset[str]] = field(default_factory=dict)
    """The ids of the accounts that each run draws on beside its own."""
    agents: list[Span] = field(default_factory=list)
    takes: list[Moment] = field(default_factory=list)
    """When another process, or the same one once more, went on with a run."""
    ended: dict[int, tuple[Moment, int | None]] = field(default_factory=dict)
    """When each run ended, and the tokens that it says it cost, if it does."""
    _open: dict[tuple[int, str], Request] = field(default_factory=dict)

    def begun(self, name: str, when: Moment, path: str, data: dict[str, Json]) -> None:
        """Note a request."""
        request = Request(name, when, data.get("reserve", 0))
        self.requests.append(request)
        self._open[when.run, path] = request

    def ended_call(self, when: Moment, path: str, data: dict[str, Json]) -> None:
        """Note what a call came to; without a usage its bound is what it cost."""
        request, usage = self._open.pop((when.run, path)), data.get("usage")
        if usage is not None:
            request.cost = tokens_of(usage)

    def agent_begun(self, site: str, when: Moment, path: str) -> None:
        self.agents.append(Span(site, path, when))

    def agent_ended(self, when: Moment, path: str) -> None:
        """Note the end of an agent, and with it of what it asked its model."""
        for span in self.agents:
            if (span.begin.run, span.path, span.end) == (when.run, path, None):
                span.end = when
        for run, call in list(self._open):
            if run == when.run and call.startswith(f"{path}/"):
                del self._open[run, call]

    def taken(self, when: Moment) -> None:
        """Note that a run is gone on with, after all that was not on record was lost."""
        self.takes.append(when)
        for run, call in list(self._open):
            if run == when.run:
                self._open.pop((run, call)).is_lost = True

    def refused(self, site: str, when: Moment, path: str, error: dict[str, Json]) -> None:
        """Note the failure of an agent at `path`, if a call of its own model was refused for it."""
        if error["type"] != "BudgetExceeded":
            return
        known = error["form"]["attributes"]
        if known["path"].rpartition("/")[0] == path:
            name = f"model:{site}.m{known['path'].rpartition('.')[2]}"
            self.refusals.append(Refusal(name, when, known["unit"]))

    def ended_run(self, when: Moment, data: dict[str, Json]) -> None:
        usage = data.get("usage")
        self.ended[when.run] = when, None if usage is None else tokens_of(usage)


def tokens_of(usage: dict[str, int]) -> int:
    names = ("input_tokens", "output_tokens", "unanswered_tokens")
    return sum(usage.get(name, 0) for name in names)


def is_at(name: str, site: str) -> bool:
    """Return whether a call of a model is made at a site, or by what is called there."""
    return not site or name.removeprefix("model:").startswith((f"{site}.", f"{site}/"))


def is_spent(books: Books, bills: Bills) -> bool:
    """Return whether anything was drawn on a budget."""
    names = [each.name for each in (*bills.requests, *bills.refusals)]
    return any(is_at(name, site) for name in names for site in books.budgets)


def is_hidden(books: Books, bills: Bills) -> bool:
    """Return whether what a budget refused depends on what no undisturbed schedule has.

    A call whose answer was lost cost its bound; and where several agents draw on one budget,
    whoever is taken by another process meanwhile comes later. A call that was drawn, and whose
    intent was lost, counts until its run is taken: who asks for one till then does not wait.
    """
    return any(
        is_at(refusal.name, site) and _is_shifted(refusal, site, bills)
        for refusal in bills.refusals
        for site in books.budgets
    )


def _is_shifted(refusal: Refusal, site: str, bills: Bills) -> bool:
    here = [each for each in (*bills.requests, *bills.refusals) if is_at(each.name, site)]
    if any(isinstance(each, Request) and each.is_lost for each in here):
        return True
    agents = {each.name.rpartition(".")[0] for each in here}
    counts = refusal.unit == "calls"
    return len(agents) > 1 and any(counts or t.is_before(refusal.when) for t in bills.takes)


def problems(books: Books, bills: Bills, store: Store, *, exact: bool) -> Iterator[str]:
    """Yield what is wrong between models, journals and accounts.

    Args:
        books: what models counted.
        bills: what the journals hold.
        store: where the accounts are.
        exact: whether no process died, so that accounts hold what journals do, and no more.
    """
    for site, budget in books.budgets.items():
        yield from _beyond(site, budget, books, bills)
    if books.budgets:
        yield from filter(None, (_unfounded(each, books, bills) for each in bills.refusals))
        for number, place in bills.places.items():
            yield from _accounted(number, place, books, bills, store, exact=exact)


def _beyond(site: str, budget: Budget, books: Books, bills: Bills) -> Iterator[str]:
    """Yield where a budget was passed, or less was drawn on it than models counted."""
    spent = Counter[str]()
    for request in bills.requests:
        if is_at(request.name, site):
            spent[request.name] += request.cost
    calls = sum(request.name in spent for request in bills.requests)
    if budget.calls is not None and calls > budget.calls:
        yield f"{calls} calls were made at {site!r} of {budget}"
    if budget.tokens is None:
        return
    if spent.total() > budget.tokens:
        yield f"{spent.total()} tokens were drawn at {site!r} of {budget}"
    for name, tokens in books.paid.items():
        if is_at(name, site) and tokens > spent[name]:
            yield f"{name} computed {tokens} tokens, and {spent[name]} were drawn"


def _unfounded(refusal: Refusal, books: Books, bills: Bills) -> str:
    """Return what is wrong with a refusal, if every budget had enough."""
    name, when = refusal.name, refusal.when
    if any(end.is_before(when) for end, _ in bills.ended.values()):
        return ""  # what an end has left behind has nothing any more
    if refusal.unit == "calls" and any(when.is_before(taken) for taken in bills.takes):
        return ""  # what was drawn for intents that were lost counts until their runs are taken
    before = [each for each in bills.requests if each.when.is_before(when)]
    for site, budget in books.budgets.items():
        if not is_at(name, site):
            continue
        costs = [each.cost for each in before if is_at(each.name, site)]
        if refusal.unit == "calls" and budget.calls is not None:
            drawn = len(costs) + _drawing(site, when, bills)
            if drawn >= budget.calls:
                return ""
        if refusal.unit == "tokens" and budget.tokens is not None:
            if name not in books.inputs:
                return f"{name} was refused before its tokens were counted"
            if sum(costs) + books.inputs[name] + MOST_OUTPUT > budget.tokens:
                return ""
    return f"{name} was refused for {refusal.unit}, and would have fitted"


def _drawing(site: str, when: Moment, bills: Bills) -> int:
    """Return how many agents may have drawn a call then, and were cancelled before they meant it.

    A call that is drawn is given back by no answer, so that nobody waits for it.
    """
    under_way = {
        (span.begin.run, span.path)
        for span in bills.agents
        if is_at(f"model:{span.site}.", site) and span.is_at(when)
    }
    return len(under_way)


def _accounted(
    number: int, place: str, books: Books, bills: Bills, store: Store, *, exact: bool
) -> Iterator[str]:
    """Yield where the account of a run, or what it says it cost, is not what its journals say."""
    row = store.numbered(number)
    assert row is not None
    billed = sum(request.cost for request in bills.requests if is_at(request.name, place))
    drawn = sum(each.cost for each in bills.requests if _is_drawn(each, row, bills))
    accounts = store.accounts([row.id])
    for account in accounts:
        held, is_exact = account.total, exact or row.status not in OPEN
        # Of an account that is closed nothing comes back, whatever is under way of what is left.
        back = 0 if account.is_closed else held.open
        if held.tokens < drawn or (is_exact and (held.tokens, back) != (drawn, 0)):
            yield f"the account of run {number} holds {held}, and its journals {drawn} tokens"
        if (limit := _limit(place, books)) is not None and held.tokens > limit:
            yield f"the account of run {number} holds {held} of {limit} tokens"
    when, said = bills.ended.get(number, (None, None))
    # What a child that is on no account cost is not known where it was cancelled.
    is_known = billed == drawn if accounts else _is_alone(number, bills)
    if when is None or said is None or not is_known:
        return
    if said < billed or (said > billed and not _leaves_others(when, bills)):
        yield f"run {number} says it cost {said} tokens, and its journals {billed}"


def _is_drawn(request: Request, row: RunRow, bills: Bills) -> bool:
    """Whether a request is on a run's account: no limit may have been around a child of it."""
    return request.when.run == row.number or row.id in bills.above[request.when.run]


def _leaves_others(when: Moment, bills: Bills) -> bool:
    """Whether a run ended before one that it had started, which may have drawn a call till then."""
    others = (bills.ended.get(run) for run in bills.places if run > when.run)
    return any(other is None or when.is_before(other[0]) for other in others)


def _limit(place: str, books: Books) -> int | None:
    """Return the tokens that the account of a run is limited to, if it is."""
    return books.budgets[""].tokens if not place and "" in books.budgets else None


def _is_alone(number: int, bills: Bills) -> bool:
    """Whether a run has no children."""
    place = bills.places[number]
    others = (other for one, other in bills.places.items() if one != number)
    return not any(not place or other.startswith(f"{place}/") for other in others)


def place_of(row: RunRow, data: dict[str, Json]) -> str:
    """Return where a run was called, by its first event."""
    return data["input"].get("place", "") if row.parent is not None else ""
