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

MOST_INSTRUCTIONS = 8_000
"""Characters at either end of a message within which it says what is asked."""

_CHAT_TAGS = ("<chat_history>", "</chat_history>")
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
_FENCES = ("```", '"""')
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
    before, _, rest = question.partition(_CHAT_TAGS[0])
    chat, end, behind = rest.partition(_CHAT_TAGS[1])
    if not end and not question.lstrip().startswith(_HEADING):
        return None
    around = _ends(f"{before} {behind}" if end else question)
    if _DOCUMENTS.search(around):
        return None
    wanted = {match[1] for pattern in (_OBJECT, _NAMED_KEY) for match in pattern.finditer(around)}
    if "title" in wanted:
        return json.dumps({"title": _first_words(chat if end else "")}, ensure_ascii=False)
    key = next((key for key in _EMPTY if key in wanted), None)
    return None if key is None else json.dumps({key: _EMPTY[key]})


def _tools(question: str, told: str, limit: int | None) -> str | None:
    """Open WebUI: the system message lists tools, and the query is given a name."""
    if not _ASKED_WITH_TOOLS.match(question):
        return None
    begin = told.find("[")
    try:
        listed, _ = json.JSONDecoder().raw_decode(told[begin:]) if begin >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return None
    if isinstance(listed, list) and all(isinstance(it, dict) and "name" in it for it in listed):
        return json.dumps({"tool_calls": list[Json]()})
    return None


def _emoji(question: str, told: str, limit: int | None) -> str | None:
    """Open WebUI: emojis to choose like, and the message behind them in quotes, for one of them."""
    if limit is None or limit > MOST_TITLE_TOKENS:
        return None
    fence = next((fence for fence in _FENCES if question.rstrip().endswith(fence)), None)
    asks, _, quoted = question.partition(fence) if fence else ("", "", "")
    return "💬" if len(quoted) > len(_FENCES[0]) and _EMOJI.search(_ends(asks)) else None


def _title(question: str, told: str, limit: int | None) -> str | None:
    """LibreChat, LobeChat: a chat written out, and a title of so many words asked of it.

    Continue: a title of so many words for a chat, and what was said in it as a paragraph.
    """
    if not _asks_for_title(f"{_ends(told)}\n{_ends(question)}"):
        return None
    said = list(_SPEAKER.finditer(question))
    if not _asks_for_title(f"{_ends(told)}\n{_ends(_without_chat(question, said))}"):
        return None
    if any(line[1] for line in said) and (any(line[2] for line in said) or _is_only_chat(question)):
        return _first_words(question)
    first, _, rest = question.partition("\n\n")
    is_short = limit is not None and limit <= MOST_TITLE_TOKENS
    asks = _ends(first)
    if rest and (is_short or (_TITLE.search(asks) and _OF_CHAT.search(asks))):
        return _first_words(rest)
    return None


def _asks_for_title(text: str) -> bool:
    return bool(_TITLE.search(text) and _LIMIT.search(text))


def _ends(text: str) -> str:
    """Return the beginning and the end of a text, where a request is; not all of what was said."""
    most = MOST_INSTRUCTIONS
    return text if len(text) <= 2 * most else f"{text[:most]}\n{text[-most:]}"


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
