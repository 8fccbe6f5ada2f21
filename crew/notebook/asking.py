"""Questions of a run, answered in the cell that shows it, where ipywidgets is installed."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crew.errors import CrewError
from crew.fold import Question
from crew.message import Json
from crew.notebook.markup import escape

Answer = Callable[[str, Json], Awaitable[None]]


def has_widgets() -> bool:
    """Return whether questions can be answered by buttons here."""
    return find_spec("ipywidgets") is not None


class Asking:
    """The open questions of a run, as buttons and fields beneath it.

    Args:
        answer: answers a question of the run, by its path.
    """

    def __init__(self, answer: Answer) -> None:
        self._widgets: Any = import_module("ipywidgets")
        self._answer = answer
        self._box: Any = self._widgets.VBox([])
        self._shown: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self) -> None:
        """Put them into the cell that runs now."""
        from IPython.display import display

        display(self._box)

    def update(self, questions: Sequence[Question]) -> None:
        """Show these, and no others."""
        paths = [question.path for question in questions]
        if paths != self._shown:
            self._shown = paths
            self._box.children = [self._asked(question) for question in questions]

    def _asked(self, question: Question) -> Any:
        label = self._widgets.HTML(value=escape(question.question))
        if choices := _choices(question.schema):
            fields = [
                self._button(question, label, text, functools.partial(_same, value))
                for text, value in choices
            ]
        else:
            field = self._widgets.Text(placeholder=question.schema.get("type", "JSON"))
            typed = functools.partial(_typed, question, field)
            fields = [field, self._button(question, label, "Answer", typed)]
        return self._widgets.VBox([label, self._widgets.HBox(fields)])

    def _button(self, question: Question, label: Any, text: str, value: Callable[[], Json]) -> Any:
        def clicked(_: object) -> None:
            task = asyncio.ensure_future(self._sent(question, label, value()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        button = self._widgets.Button(description=text)
        button.on_click(clicked)
        return button

    async def _sent(self, question: Question, label: Any, value: Json) -> None:
        try:
            await self._answer(question.path, value)
        except CrewError as error:
            label.value = f"{escape(question.question)}<br/>{escape(str(error))}"


def _choices(schema: dict[str, Json]) -> list[tuple[str, Json]]:
    """Return the answers that a question has, where they are few."""
    if schema.get("type") == "boolean":
        return [("Yes", True), ("No", False)]
    return [(str(value), value) for value in schema.get("enum", ())]


def _same(value: Json) -> Json:
    return value


def _typed(question: Question, field: Any) -> Json:
    """Return what was typed: text where that is asked for, else JSON where it is that."""
    text: str = field.value
    if question.schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
