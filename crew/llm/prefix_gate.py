"""Which of an engine's slots a request goes on, so that a shared prefix is computed once.

An engine of llama.cpp's kind keeps, per slot, the tokens it saw last, and shares nothing between
slots. Left alone it spreads requests over slots, and four agents with one long prefix compute it
four times, at the same time. Here the first request of a prefix leads, and those with the same
prefix wait for its slot.

Waiting pays while it costs less than computing the prefix again, so a request follows until its
leader has been answering for as long as that would take, then takes another slot: never more
than twice the best that was possible.

Source: ski rental; Karlin, Manasse, Rudolph, Sleator, "Competitive snoopy caching", 1988.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from crew.define import define

__all__ = ["PrefixGate", "Ticket"]


@dataclass(eq=False, slots=True)
class Ticket:
    """A request's place at the gate; `slot` is -1 while it waits."""

    text: str
    wake: Callable[[], bool]
    slot: int = -1


@define
class _Slot:
    text: str = ""
    holder: Ticket | None = None
    answering_since: float | None = None
    used: int = 0


@define
class PrefixGate:
    """Admits requests to `slots` slots, oldest first among those that can go.

    Pure but for its lock: the clock is an argument (`now`, seconds, rising), and whoever waits
    is told through its ticket's `wake`, which may be called from any thread, must not block, and
    says whether anybody is still there.
    Nobody starves: a request waits for a slot only while that slot is held, and each time a slot
    falls free the oldest request that wants it goes first.
    """

    slots: int
    shared_chars: int = 400
    """A common prefix shorter than this many characters is not worth waiting for."""
    chars_per_second: float = 1000.0
    """How fast the engine reads a prompt; about 250 tokens a second on two old cores."""
    _slots: list[_Slot] = field(init=False)
    _waiting: list[Ticket] = field(init=False, default_factory=list)
    _admitted: int = field(init=False, default=0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._slots = [_Slot() for _ in range(self.slots)]

    def ask(self, text: str, *, now: float, wake: Callable[[], bool]) -> Ticket:
        """Queue a request; `text` is its whole prompt. The ticket may be admitted on return."""
        ticket = Ticket(text, wake)
        with self._lock:
            self._waiting.append(ticket)
            self._admit(now)
        return ticket

    def deadline(self, ticket: Ticket) -> float | None:
        """Return when `admit` may let this one go elsewhere; None: not before it is woken."""
        with self._lock:
            leader = self._leader(ticket.text)
            return None if leader is None else self._deadline(ticket.text, leader)

    def admit(self, *, now: float) -> None:
        """Let go whoever can go by now; to be called when a deadline has come."""
        with self._lock:
            self._admit(now)

    def answering(self, ticket: Ticket, *, now: float) -> None:
        """Note that the ticket's prompt is computed and its first token is there."""
        with self._lock:
            slot = self._slots[ticket.slot]
            if slot.holder is ticket and slot.answering_since is None:
                slot.answering_since = now
                self._wake_waiting()

    def leave(self, ticket: Ticket, *, now: float) -> None:
        """Give the place back: answered, failed, cancelled, or tired of waiting. Safe twice."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif self._slots[ticket.slot].holder is ticket:
                self._free(self._slots[ticket.slot])
            self._admit(now)

    def _free(self, slot: _Slot) -> None:
        # Stopped before its first token: how much of the prompt the slot holds is not known.
        if slot.answering_since is None:
            slot.text = ""
        slot.holder, slot.answering_since = None, None

    def _admit(self, now: float) -> None:
        for ticket in list(self._waiting):
            if (slot := self._choose(ticket, now)) is not None:
                self._waiting.remove(ticket)
                self._hold(ticket, slot)

    def _hold(self, ticket: Ticket, number: int) -> None:
        ticket.slot = number
        if not ticket.wake():
            return
        self._admitted += 1
        slot = self._slots[number]
        slot.text, slot.holder, slot.used = ticket.text, ticket, self._admitted

    def _choose(self, ticket: Ticket, now: float) -> int | None:
        idle = [i for i, slot in enumerate(self._slots) if slot.holder is None]
        if not idle:
            return None
        warm = max(idle, key=lambda i: self._shared(ticket.text, self._slots[i]))
        if self._fits(ticket.text, self._slots[warm]):
            return warm
        leader = self._leader(ticket.text)
        if leader is not None and not self._is_over(self._deadline(ticket.text, leader), now):
            return None
        return min(idle, key=lambda i: (bool(self._slots[i].text), self._slots[i].used))

    def _leader(self, text: str) -> _Slot | None:
        """Return the held slot worth following: one still reading, else the last to answer."""
        leaders = [slot for slot in self._slots if slot.holder and self._fits(text, slot)]
        return max(leaders, key=_answering_since, default=None)

    def _deadline(self, text: str, leader: _Slot) -> float | None:
        """Return when following has cost as much as reading the shared prefix again would."""
        if leader.answering_since is None:
            return None
        return leader.answering_since + self._shared(text, leader) / self.chars_per_second

    def _is_over(self, deadline: float | None, now: float) -> bool:
        return deadline is not None and now >= deadline

    def _fits(self, text: str, slot: _Slot) -> bool:
        return self._shared(text, slot) >= max(self.shared_chars, len(text) // 2)

    def _shared(self, text: str, slot: _Slot) -> int:
        return _common_length(text, slot.text)

    def _wake_waiting(self) -> None:
        # Now it can be said until when they wait.
        for ticket in self._waiting:
            ticket.wake()


def _answering_since(slot: _Slot) -> float:
    return float("inf") if slot.answering_since is None else slot.answering_since


def _common_length(left: str, right: str) -> int:
    """Count the characters both begin with, by halving: comparing slices is what C does fast."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
