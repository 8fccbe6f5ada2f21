"""Requests that a chat front end makes for itself: title, tags, follow-ups; no run for them."""

import json
import re

__all__ = ["side_answer"]

_HEADING = "### Task:"
# The key of the JSON object that the prompt asks for tells the task. Open WebUI's prompt for
# answering from documents has the same heading and no such line: that one is a real question.
_WANTED = re.compile(r'(?:JSON format|in JSON format|JSON)\s*:?\s*\{\s*"(\w+)"\s*:')
_FOLLOW_UPS = re.compile(r'JSON object with a "follow_ups" key')
_CHAT = re.compile(r"<chat_history>(.*?)</chat_history>", re.DOTALL)
_USER_LINE = re.compile(r"^\s*(?:USER|user)\s*:\s*(.+)$", re.MULTILINE)
_EMPTY: dict[str, object] = {
    "tags": [],
    "follow_ups": [],
    "queries": [],
    "text": "",
    "prompt": "",
}


def side_answer(question: str) -> str | None:
    """The answer to a front end's own request, as the JSON it asks for; None for a real question.

    A title is made of the first words of the chat; tags, follow-ups and search queries are
    none. Known by Open WebUI's prompts (checked against its public default templates).
    """
    if not question.lstrip().startswith(_HEADING):
        return None
    wanted = _WANTED.search(question)
    key = wanted[1] if wanted else "follow_ups" if _FOLLOW_UPS.search(question) else ""
    if key == "title":
        return json.dumps({"title": _title(question)}, ensure_ascii=False)
    return json.dumps({key: _EMPTY[key]}) if key in _EMPTY else None


def _title(question: str) -> str:
    """The first five words of what the user said first."""
    chat = _CHAT.search(question)
    first = _USER_LINE.search(chat[1]) if chat else None
    words = first[1].split() if first else []
    return " ".join(words[:5])[:60] or "Chat"
