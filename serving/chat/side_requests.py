"""Requests that a chat front end makes for itself, such as for a title; they cost no run.

They are known by their form: what a front end's code puts around the words, since those may be
translated, or changed by who runs it. Each is the first message of a chat.
"""

import json
import re
from collections.abc import Callable

from crew.message import Json

__all__ = ["side_answer"]

MOST_TITLE_TOKENS = 20
"""The longest answer that a request for a title alone allows; no question is answered in so few."""

_CHAT = re.compile(r"<chat_history>(.*?)</chat_history>", re.DOTALL)
_OBJECT = re.compile(r'\{\s*"(\w+)"\s*:')
_NAMED_KEY = re.compile(r'JSON[^"\n]{0,40}"(\w+)"')
_EMPTY: dict[str, Json] = {
    "tags": list[Json](),
    "follow_ups": list[Json](),
    "queries": list[Json](),
    "text": "",
    "prompt": "",
}
_HEADING = "### Task:"
# Open WebUI's prompt for answering from documents has that heading too: it is a real question.
_DOCUMENTS = re.compile(r"<(context|source|user_query)\b")
_ASKED_WITH_TOOLS = re.compile(r"\s*Query:")
_FENCED = re.compile(r"(```|\"\"\").*\1\s*$", re.DOTALL)
_EMOJI = re.compile("[\U0001f300-\U0001faff]")
_SPEAKER = re.compile(
    r"^[ \t>|*#]*(?:(user|human)|(assistant|ai|bot|model|response))[*]*[ \t]*:[ \t]*(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE = re.compile(
    r"titl|titel|titre|t[ií]tulo|titol|tytu[lł]|otsikk|tittel|rubrik|cím|başl|τίτλ|заголов|назван|"
    r"tiêu đề|judul|标题|標題|タイトル|題名|제목|शीर्षक|عنوان|כותרת",
    re.IGNORECASE,
)
_OF_CHAT = re.compile(
    r"chat|convers|gespräch|unterhaltung|dialog|sohbet|rozmow|бесед|разговор|чат|对话|對話|会话|會話|会話|대화",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\d|[一二三四五六七八九十]")


def side_answer(question: str, *, told: str = "", limit: int | None = None) -> str | None:
    """Return the answer to a front end's own request, in the form it asks for; else None.

    A title is made of the first words of the chat; tags, follow-ups, search queries and calls of
    tools are none.

    Args:
        question: the last message of the user; nothing was said before.
        told: what messages of system say.
        limit: how many tokens the answer may have.

    Source: the prompts and the code around them in Open WebUI (`routers/tasks.py`,
    `utils/middleware.py`), LibreChat (`@librechat/agents`, `utils/title.ts`), LobeChat
    (`chains/summaryTitle.ts`) and Continue (`util/chatDescriber.ts`), read in November 2026.
    """
    kinds: list[Callable[[str, str, int | None], str | None]] = [_as_json, _tools, _emoji, _title]
    return next((made for kind in kinds if (made := kind(question, told, limit)) is not None), None)


def _as_json(question: str, told: str, limit: int | None) -> str | None:
    """Open WebUI: the chat between tags, and an object of one key, which tells the task."""
    chat = _CHAT.search(question)
    if chat is None and not question.lstrip().startswith(_HEADING):
        return None
    around = _CHAT.sub(" ", question)
    if _DOCUMENTS.search(around):
        return None
    wanted = {match[1] for pattern in (_OBJECT, _NAMED_KEY) for match in pattern.finditer(around)}
    if "title" in wanted:
        return json.dumps({"title": _first_words(chat[1] if chat else "")}, ensure_ascii=False)
    key = next((key for key in _EMPTY if key in wanted), None)
    return None if key is None else json.dumps({key: _EMPTY[key]})


def _tools(question: str, told: str, limit: int | None) -> str | None:
    """Open WebUI: the system message lists tools, and the query is given a name."""
    if not _ASKED_WITH_TOOLS.match(question):
        return None
    begin = told.find("[")
    try:
        listed, _ = json.JSONDecoder().raw_decode(told[begin:]) if begin >= 0 else (None, 0)
    except ValueError:
        return None
    if isinstance(listed, list) and all(isinstance(it, dict) and "name" in it for it in listed):
        return json.dumps({"tool_calls": list[Json]()})
    return None


def _emoji(question: str, told: str, limit: int | None) -> str | None:
    """Open WebUI: emojis to choose like, and the message behind them in quotes, for one of them."""
    fenced = _FENCED.search(question)
    if fenced and limit is not None and limit <= MOST_TITLE_TOKENS:
        return "💬" if _EMOJI.search(question[: fenced.start()]) else None
    return None


def _title(question: str, told: str, limit: int | None) -> str | None:
    """LibreChat, LobeChat: a chat written out, and a title of so many words asked of it.

    Continue: a title of so many words for a chat, and what was said in it as a paragraph.
    """
    said = list(_SPEAKER.finditer(question))
    asks = f"{told}\n{_without_chat(question, said)}"
    if not (_TITLE.search(asks) and _LIMIT.search(asks)):
        return None
    if any(line[1] for line in said) and (any(line[2] for line in said) or _is_only_chat(question)):
        return _first_words(question)
    first, _, rest = question.partition("\n\n")
    is_short = limit is not None and limit <= MOST_TITLE_TOKENS
    if rest and (is_short or (_TITLE.search(first) and _OF_CHAT.search(first))):
        return _first_words(rest)
    return None


def _is_only_chat(question: str) -> bool:
    """Return whether a message has nothing but the lines of a chat, or a name before them."""
    return _SPEAKER.match(question.lstrip()) is not None


def _without_chat(question: str, said: list[re.Match[str]]) -> str:
    """Return what stands around the lines of a chat: before them, and in the last paragraph."""
    if not said:
        return question
    behind = question[said[-1].end() :].rpartition("\n\n")[2] if said else ""
    return f"{question[: said[0].start()]}\n{behind}"


def _first_words(chat: str) -> str:
    """Return the first five words of what the user said first."""
    line = next((match[3] for match in _SPEAKER.finditer(chat) if match[1]), "")
    words = (line or chat).split()
    return " ".join(words[:5])[:60].strip() or "Chat"
