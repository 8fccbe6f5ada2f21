"""What an agent is to answer: a text, or a value of a type whose schema its model is told.

While tools may be called no schema is forced: engines that force one call no tool then, and some
endpoints refuse both at once. The answer is given by a tool instead, which any endpoint that calls
tools knows, and which costs no further turn; nor does the prompt change between turns, whose
beginning engines keep. A model that answers in words all the same is asked once more, with the
schema forced and no tools.
"""

import json
from typing import Any

from crew.agent.text_field import FIELD
from crew.errors import OutputInvalid
from crew.llm import ToolSpec
from crew.llm.extraction import json_in
from crew.llm.wire import INVALID_ARGUMENTS
from crew.message import Json, ToolCall
from crew.value import Codec, describe, union_members

__all__ = ["TOOL", "Output"]

TOOL = "final_answer"
"""The tool by which a model gives an answer that is no text."""
_FIELD = "answer"
"""What holds an answer that is no object by itself, in schemas and arguments, which must be."""


class Output:
    """The answers of one agent.

    Args:
        agent: its name.
        codec: what stores them, by their type.
    """

    def __init__(self, agent: str, codec: Codec) -> None:
        self._agent, self._codec = agent, codec
        members = union_members(codec.annotation)
        self.is_text = members == (str,)
        """Whether any text is an answer, and nothing else."""
        self._takes_text = str in members
        self.schema: dict[str, Json] | None = None
        """What a reply must satisfy, an object; None for a text."""
        self._is_wrapped = False
        if not self.is_text:
            schema = codec.schema()
            self._is_wrapped = schema.get("type") != "object"
            self.schema = _wrapped(schema) if self._is_wrapped else schema
        self.has_text = _has_text(self.schema)
        """Whether it is an object with a text of its own, which a reader sees grow."""

    def spec(self) -> ToolSpec:
        """Return the tool by which it is given."""
        assert self.schema is not None
        kind = describe(self._codec.annotation)
        words = " Or answer in words, without it." if self._takes_text else ""
        return ToolSpec(
            TOOL, f"Give the final answer ({kind}), which ends the task.{words}", self.schema
        )

    def read(self, text: str, *, is_cut_off: bool = False) -> Json:
        """Return the answer that a reply's text is, encoded; half of a JSON object is no words.

        Raises:
            OutputInvalid: it is none; the message lets a model repair it.
        """
        if self.is_text:
            return text
        try:
            found = json.loads(json_in(text, self.schema if self._takes_text else None))
        except ValueError as error:
            if self._takes_text and not (is_cut_off and text.lstrip().startswith("{")):
                return self._encoded(text)
            raise OutputInvalid(
                message=f"agent {self._agent!r} must answer in JSON, got {text!r:.300}",
                received=text,
            ) from error
        return self._of_words(found, text) if self._takes_text else self._of(found)

    def given(self, call: ToolCall) -> Json:
        """Return the answer that was given by a call of its tool, encoded.

        Raises:
            OutputInvalid: it is none; the message lets a model repair it.
        """
        if INVALID_ARGUMENTS in call.arguments:
            written = str(call.arguments[INVALID_ARGUMENTS])
            raise OutputInvalid(
                message=f"the arguments of {TOOL!r} are not a JSON object: {written!r:.300}",
                received=written,
            )
        return self._of(call.arguments)

    def words(self, call: ToolCall) -> str:
        """Return what was given by a call of its tool as a reply's text."""
        given = call.arguments
        found = given[_FIELD] if self._is_in_field(given) else given
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    def _of(self, found: Json) -> Json:
        """Return what JSON stands for, encoded; some models leave out what it is wrapped in."""
        if not self._is_in_field(found):
            return self._encoded(found)
        try:
            return self._encoded(found[_FIELD])
        except OutputInvalid as error:
            try:
                return self._encoded(found)
            except OutputInvalid:
                raise error from None

    def _of_words(self, found: Json, text: str) -> Json:
        """Return what JSON stands for, if that is no text; else the very words."""
        if isinstance(found, str):
            return self._encoded(text)
        try:
            return self._of(found)
        except OutputInvalid:
            return self._encoded(text)

    def _is_in_field(self, found: Json) -> bool:
        return self._is_wrapped and isinstance(found, dict) and found.keys() == {_FIELD}

    def _encoded(self, found: Json) -> Json:
        return self._codec.passed_on(self._codec.read(found))[0]

    def value(self, output: Json) -> Any:
        """Return an encoded answer as a value of its type."""
        return self._codec.decode(output)


def _wrapped(schema: dict[str, Json]) -> dict[str, Json]:
    """Return the schema of an object that holds the answer: no endpoint takes another root."""
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    outer: dict[str, Json] = {
        "type": "object",
        "properties": {_FIELD: inner},
        "required": [_FIELD],
        "additionalProperties": False,
    }
    return {**outer, "$defs": schema["$defs"]} if "$defs" in schema else outer


def _has_text(schema: dict[str, Json] | None) -> bool:
    field = (schema or {}).get("properties", {}).get(FIELD, {})
    return bool(field.get("type") == "string")
