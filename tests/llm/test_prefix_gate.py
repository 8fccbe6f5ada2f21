"""The gate alone: who goes where, who waits, and that nobody waits for ever."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from crew.llm.prefix_gate import PrefixGate, Ticket

SHARED = "the same long beginning " * 50


def gate_of(slots: int = 4) -> PrefixGate:
    return PrefixGate(slots)


def ask(gate: PrefixGate, text: str, now: float = 0.0) -> Ticket:
    return gate.ask(text, now=now, wake=lambda: True)


def test_requests_with_nothing_in_common_go_to_slots_of_their_own():
    gate = gate_of()
    tickets = [ask(gate, letter * 2000) for letter in "abcd"]
    assert sorted(ticket.slot for ticket in tickets) == [0, 1, 2, 3]


def test_a_follower_waits_for_its_leader_and_goes_on_its_slot():
    gate = gate_of()
    leader, follower = ask(gate, SHARED + "a"), ask(gate, SHARED + "b")
    assert (leader.slot, follower.slot) == (0, -1)
    gate.answering(leader, now=1)
    gate.leave(leader, now=1.1)
    assert follower.slot == 0


def test_a_short_common_beginning_is_not_waited_for():
    gate = gate_of()
    assert [ask(gate, "You are a helper. " + x * 900).slot for x in "ab"] == [0, 1]


def test_a_follower_takes_another_slot_once_waiting_costs_more_than_reading():
    gate = gate_of()
    leader, follower = ask(gate, SHARED + "a"), ask(gate, SHARED + "b")
    assert gate.deadline(follower) is None
    gate.answering(leader, now=10)
    deadline = gate.deadline(follower)
    assert deadline is not None
    assert 11 < deadline < 12  # 1,200 characters at 1,000 a second
    gate.admit(now=deadline)
    assert follower.slot == 1


def test_the_next_follower_waits_for_the_one_that_reads_the_prefix_again():
    gate = gate_of()
    leader, second, third = (ask(gate, SHARED + x) for x in "abc")
    gate.answering(leader, now=0)
    gate.admit(now=5)
    assert (second.slot, third.slot) == (1, -1)


def test_a_warm_idle_slot_is_taken_before_a_cold_one():
    gate = gate_of()
    first = ask(gate, SHARED)
    gate.answering(first, now=1)
    gate.leave(first, now=2)
    ask(gate, "z" * 900)
    assert ask(gate, SHARED + "and more").slot == first.slot


def test_the_prefix_that_was_not_used_longest_is_given_up():
    gate = gate_of(2)
    for text in ("a" * 900, "b" * 900, "a" * 950):
        ticket = ask(gate, text)
        gate.answering(ticket, now=0)
        gate.leave(ticket, now=0)
    assert ask(gate, "c" * 900).slot == 1


def test_a_leader_that_failed_before_its_first_token_leaves_no_prefix_behind():
    gate = gate_of()
    leader, follower = ask(gate, SHARED + "a"), ask(gate, SHARED + "b")
    gate.leave(leader, now=0)
    assert follower.slot >= 0
    gate.leave(follower, now=0)
    assert all(not slot.text for slot in gate._slots)


def test_a_waiter_that_went_away_is_skipped():
    gate = gate_of(1)
    leader, gone, last = (ask(gate, x * 500) for x in "abc")
    gate.leave(gone, now=0)
    gate.leave(leader, now=0)
    assert (gone.slot, last.slot) == (-1, 0)


def test_a_waiter_whose_loop_is_closed_does_not_keep_the_slot():
    gate = gate_of(1)
    leader = ask(gate, "a")
    gate.ask("b", now=0, wake=lambda: False)
    last = ask(gate, "c")
    gate.leave(leader, now=0)
    assert last.slot == -1 or gate._slots[0].holder is last
    gate.admit(now=0)
    assert gate._slots[0].holder is last


def test_leaving_twice_frees_no_other_requests_slot():
    gate = gate_of(1)
    first, second = ask(gate, "a"), ask(gate, "b")
    gate.leave(first, now=0)
    gate.leave(first, now=0)
    assert gate._slots[0].holder is second


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), slots=st.integers(1, 4), count=st.integers(1, 30))
def test_everybody_is_served_once_whatever_the_order(seed: int, slots: int, count: int):
    chance = random.Random(seed)
    gate, now, running, served = PrefixGate(slots), 0.0, [], []
    prefixes = [letter * 600 for letter in "abc"]
    tickets = [ask(gate, chance.choice(prefixes) + str(i)) for i in range(count)]
    for _ in range(20 * count):
        now += chance.random()
        gate.admit(now=now)
        running = [t for t in tickets if t.slot >= 0 and t not in served]
        assert len({t.slot for t in running}) == len(running) <= slots
        if not running:
            break
        chosen = chance.choice(running)
        if chance.random() < 0.5:
            gate.answering(chosen, now=now)
        else:
            gate.leave(chosen, now=now)
            served.append(chosen)
    while running := [t for t in tickets if t.slot >= 0 and t not in served]:
        gate.leave(running[0], now=now)
        served.append(running[0])
    assert len(served) == count
