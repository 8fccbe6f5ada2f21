"""A run as a cell of a notebook shows it: the graph, the tree, the text, and what it asks."""

from collections.abc import Iterable, Sequence
from dataclasses import field

from crew.define import define
from crew.fold import Event, Question, Questions, Remarks, Span, Spans, Text, fold
from crew.graph.workflow import Edge
from crew.notebook.markup import badge, block, escape, money, shortened
from crew.notebook.picture import picture
from crew.notebook.tree import tree_table
from crew.value import text_of

_MOST_TEXT = 2000
"""How many characters of what a run says are shown: the last ones."""


@define
class View:
    """A run's events, as somebody looks at them."""

    run: str
    workflow: str
    edges: Sequence[Edge] = ()
    spans: Spans = field(default_factory=Spans)
    text: Text = field(default_factory=Text)
    asked: Questions = field(default_factory=Questions)
    remarks: Remarks = field(default_factory=Remarks)

    def add(self, events: Iterable[Event]) -> None:
        fold(events, self.spans, self.text, self.asked, self.remarks)

    @property
    def questions(self) -> list[Question]:
        return [] if self.spans.ending.is_final else list(self.asked.open.values())

    def html(self, now: float, *, shows_questions: bool = True) -> str:
        """Return it as it stands at `now`, in unix seconds."""
        whole = self.spans.tree(self.workflow)
        asked = [_question(it) for it in self.questions] if shows_questions else []
        return block(
            self._head(whole, now),
            picture(self.edges, whole),
            tree_table(whole, now),
            escape(self.remarks.progress) if not self.spans.ending.is_final else "",
            self._said(),
            *asked,
        )

    def _head(self, whole: Span, now: float) -> str:
        state = "waiting" if self.questions and whole.outcome == "running" else whole.outcome
        parked = self.spans.ending.parked
        facts = [f"{whole.seconds_by(now):.1f} s"]
        facts += [f"{whole.tokens} tokens"] if whole.tokens else []
        facts += [f"{money(whole.money)} money"] if whole.money else []
        facts += [f"parked: {escape(parked.reason)}"] if parked is not None else []
        name = f"<b>{escape(self.workflow)}</b> <code>{escape(self.run)}</code>"
        return f"{name} {badge(state)} {' · '.join(facts)}"

    def _said(self) -> str:
        ending = self.spans.ending
        if ending.error is not None:
            return f"<b>{escape(ending.error.type)}</b>: {shortened(ending.error.message, 600)}"
        said = str(self.text)
        if not said and ending.kind == "completed":
            said = text_of(ending.output)
        return _text(said) if said else ""


def _text(text: str) -> str:
    shown = text if len(text) <= _MOST_TEXT else f"…{text[-_MOST_TEXT:]}"
    style = "white-space:pre-wrap;border-left:3px solid #8884;padding-left:8px"
    return f'<div style="{style}">{escape(shown)}</div>'


def _question(question: Question) -> str:
    how = f"await run.answer({question.key!r}, …)"
    return f"{badge('waiting', 'asks')} {escape(question.question)} <code>{escape(how)}</code>"
