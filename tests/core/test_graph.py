"""What a graph accepts, and what its errors advise."""

import pytest
from pydantic import BaseModel

from crew import Agent, Context, Graph, GraphError, workflow
from tests.core.flows import Answer, Code, Finding, Question, Search, research


def test_a_graph_draws_itself():
    drawing = research().mermaid()
    assert "plan -->|each Search| look_up" in drawing
    assert "look_up -->|all Finding| summarise" in drawing
    assert "summarise -->|Answer| output" in drawing


def test_a_drawing_is_what_mermaid_reads():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node(name="to plan")
    async def plan(question: Question) -> list[Search]: ...

    @graph.node(name='"look" up')
    async def look_up(search: Search) -> Finding: ...

    @graph.node
    async def end_(findings: list[Finding]) -> dict[str, int]: ...

    @graph.node
    async def end(counts: dict[str, int]) -> Answer: ...

    assert graph.edges()[0].giver == "input"
    assert graph.mermaid().splitlines() == [
        "flowchart TD",
        "    input([input])",
        "    output([output])",
        '    node_0["to plan"]',
        '    node_1["#quot;look#quot; up"]',
        '    end_["end_"]',
        '    node_3["end"]',
        "    input -->|Question| node_0",
        "    node_0 -->|each Search| node_1",
        "    node_1 -->|all Finding| end_",
        '    end_ -->|"dict[str, int]"| node_3',
        "    node_3 -->|Answer| output",
    ]


def test_a_notebook_shows_the_drawing():
    assert research()._repr_markdown_().startswith("```mermaid\nflowchart TD")


def test_a_type_that_no_node_takes_is_named():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> Search: ...

    with pytest.raises(GraphError, match=r"'plan' gives Search, which no node takes; add a node"):
        graph.build()


def test_two_consumers_are_named_with_the_ways_out():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def one(question: Question) -> Answer: ...

    @graph.node
    async def two(question: Question) -> Answer: ...

    with pytest.raises(GraphError, match="'one' and 'two' both take Question.*after=.*broadcast"):
        graph.build()


def test_an_unreachable_node_is_named():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def answer(question: Question) -> Answer: ...

    @graph.node
    async def lonely(task: Code) -> Answer: ...

    with pytest.raises(GraphError, match="'lonely' is never reached: no node gives Code"):
        graph.build()


def test_a_join_without_a_fan_out_is_refused():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def find(question: Question) -> Finding: ...

    @graph.node
    async def join(findings: list[Finding]) -> Answer: ...

    with pytest.raises(GraphError, match="no fan-out leads to it"):
        graph.build()


def test_an_output_left_inside_a_fan_out_is_refused():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> list[Search]: ...

    @graph.node
    async def answer(task: Search) -> Answer: ...

    with pytest.raises(GraphError, match=r"add a node that takes list\[Answer\]"):
        graph.build()


def test_a_graph_without_its_output_is_refused():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def nothing(question: Question) -> None: ...

    with pytest.raises(GraphError, match="no node gives the output, Answer"):
        graph.build()


def test_a_graph_without_nodes_is_refused():
    with pytest.raises(GraphError, match="has no nodes"):
        Graph("g", input=Question, output=Answer).build()


def test_a_missing_return_annotation_is_refused():
    graph = Graph("g", input=Question, output=Answer)
    with pytest.raises(GraphError, match="needs a return annotation"):

        @graph.node
        async def plan(question: Question): ...


def test_a_missing_parameter_annotation_is_refused():
    graph = Graph("g", input=Question, output=Answer)
    with pytest.raises(GraphError, match="annotate 'question'"):

        @graph.node
        async def plan(question) -> Answer: ...


def test_two_values_are_refused():
    graph = Graph("g", input=Question, output=Answer)
    with pytest.raises(GraphError, match="takes one"):

        @graph.node
        async def plan(ctx: Context, one: Question, two: Question) -> Answer: ...


def test_two_classes_of_one_name_are_refused():
    class Inner:
        class Finding(BaseModel):
            x: int

    graph = Graph("g", input=Question, output=Answer)

    @graph.node
    async def plan(question: Question) -> Finding: ...

    @graph.node
    async def next_one(finding: Finding) -> Inner.Finding: ...

    @graph.node
    async def last(finding: Inner.Finding) -> Answer: ...

    with pytest.raises(GraphError, match="are named 'Finding'"):
        graph.build()


def test_a_list_beside_another_type_is_refused():
    graph = Graph("g", input=Question, output=Answer)
    with pytest.raises(GraphError, match="a list is a fan-out or a join"):

        @graph.node
        async def plan(question: Question) -> list[Search] | Answer: ...


def test_after_must_name_a_node():
    graph = Graph("g", input=Question, output=Answer)

    @graph.node(after="nobody")
    async def plan(question: Question) -> Answer: ...

    with pytest.raises(GraphError, match="after 'nobody', which is no node"):
        graph.build()


def test_defining_a_node_again_replaces_it_and_checks_anew():
    graph = research()
    graph.build()

    @graph.node
    async def plan(question: Question) -> Code: ...

    with pytest.raises(GraphError, match="'summarise' takes .* no fan-out leads to it"):
        graph.build()


def test_a_local_class_that_is_not_there_yet_is_explained():
    graph = Graph("g", input=Question, output=Answer)
    with pytest.raises(GraphError, match="define its types before it"):

        @graph.node
        async def plan(question: "NotThere") -> Answer: ...  # noqa: F821


def test_a_type_that_cannot_be_stored_is_refused():
    class Connection: ...

    with pytest.raises(GraphError, match="cannot be stored"):

        @workflow
        async def flow(ctx: Context, connection: Connection) -> str: ...


def test_the_code_hash_changes_with_the_code():
    one, two = research(), research()
    assert one.code_hash() == two.code_hash()
    two.version = "2"
    assert one.code_hash() != two.code_hash()


def test_the_code_hash_changes_with_what_the_code_holds():
    def flow_with(text, agent):
        @workflow(name="flow")
        async def flow(ctx: Context) -> str:
            return text + (await ctx.run(agent, "x")).output

        return flow.code_hash()

    agent = Agent("a", instructions="Be brief.")
    assert flow_with("one", agent) == flow_with("one", Agent("a", instructions="Be brief."))
    assert flow_with("one", agent) != flow_with("two", agent)
    assert flow_with("one", agent) != flow_with("one", Agent("a", instructions="Be long."))


def test_a_graph_is_shown_by_its_name_version_and_nodes():
    shown = "<workflow 'research' version 1: plan, look_up, compute, summarise>"
    assert repr(research()) == shown
