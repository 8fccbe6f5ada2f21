"""What a function holds is found by the names in its code."""

import functools
import math

import tests.core.flows as flows
from crew import Agent
from crew.source import held_by

alone = Agent("alone")
several = {"list": [Agent("in a list")], "tuple": (Agent("in a tuple"),)}


class Team:
    def __init__(self) -> None:
        self.member = Agent("a member")

    async def work(self) -> object:
        return self.member


team = Team()


def agents(function) -> set[str]:
    return {thing.name for thing in held_by(function) if isinstance(thing, Agent)}


async def helper(given=Agent("a default")) -> object:  # noqa: B008
    return [alone for _ in range(1)], given


def test_agents_are_found_through_globals_containers_objects_and_other_functions():
    inner = Agent("closed over")

    async def node() -> object:
        await helper()
        return inner, several, team

    assert agents(node) == {
        "alone",
        "a default",
        "closed over",
        "in a list",
        "in a tuple",
        "a member",
    }
    assert agents(team.work) == {"a member"}
    assert agents(functools.partial(node)) == agents(node)


def test_what_others_wrote_is_not_searched():
    async def node() -> object:
        return math.pi, functools.wraps, flows.research

    found = list(held_by(node))
    assert flows.research in found
    assert functools.update_wrapper not in found


def test_a_function_that_holds_itself_is_gone_through_once():
    def node() -> object:
        return node

    assert list(held_by(node)) == [node]


def test_an_agent_with_another_model_is_the_same_otherwise():
    from crew.testing import ScriptedModel

    agent = Agent("a", instructions="i", model=ScriptedModel(name="one"), max_turns=3)
    other = agent.with_model(ScriptedModel(name="two"))
    assert (other.name, other.instructions, other.max_turns) == ("a", "i", 3)
    assert agent.definition().replace("'one'", "'two'") == other.definition()
