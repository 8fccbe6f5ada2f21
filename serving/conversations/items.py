"""The messages of a conversation as items of the API."""

from collections.abc import Iterable, Sequence

from crew.content import Content, File, Image, Part
from crew.message import Json, Message
from crew.run import Run, Tenant
from serving.http.errors import ApiError

__all__ = ["by_turn", "conversation_items", "input_item", "turns_of"]

_EVERY = 1 << 31


async def turns_of(tenant: Tenant, thread: str) -> list[Run]:
    """Return the turns of a conversation, the oldest first; forks are no turns."""
    runs = await tenant.runs(thread=thread, limit=_EVERY)
    return sorted((run for run in runs if run.turn is not None), key=lambda run: run.turn or 0)


async def conversation_items(tenant: Tenant, thread: str) -> list[dict[str, Json]]:
    """Return what was said, the oldest first; an item's id names the run it belongs to.

    One from before the first turn is named by the conversation.

    Raises:
        ApiError: 409, the conversation changed while it was read.
    """
    turns, whole = await turns_of(tenant, thread), await tenant.thread(thread)
    said = by_turn(whole.messages[whole.opening :])
    if len(said) < len(turns):
        raise ApiError(
            status=409,
            message=f"the conversation {thread!r} was erased while it was read",
            type="conflict_error",
            code="conversation_changed",
        )
    opening = [
        input_item(thread, message.content, name=str(place), role=message.role)
        for place, message in enumerate(whole.messages[: whole.opening])
    ]
    return opening + [
        _item(run, message)
        for run, messages in zip(turns, said, strict=False)
        for message in messages
    ]


def input_item(
    origin: str, said: Content, *, name: str = "in", role: str = "user"
) -> dict[str, Json]:
    """Return a message that a run was given, or a conversation began with."""
    parts = (said,) if isinstance(said, str) else said
    return {
        "id": f"msg_{origin}_{name}",
        "type": "message",
        "role": role,
        "status": "completed",
        "content": [_part(part, role) for part in parts],
    }


def _part(part: Part, role: str) -> dict[str, Json]:
    match part:
        case Image(media_type=kind):
            url = f"data:{kind};base64,{part.base64}"
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case File(name=name, kind=kind):
            data = f"data:{kind};base64,{part.base64}"
            return {"type": "input_file", "filename": name, "file_data": data}
        case text if role == "assistant":
            empty: dict[str, Json] = {"annotations": list[Json](), "logprobs": list[Json]()}
            return {"type": "output_text", "text": text, **empty}
        case text:
            return {"type": "input_text", "text": text}


def by_turn(messages: Iterable[Message]) -> Sequence[Sequence[Message]]:
    """Divide messages into turns, each of which begins with its user's."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            turns.append([message])
        else:
            turns[-1].append(message)
    return turns


def _item(run: Run, message: Message) -> dict[str, Json]:
    if message.role == "user":
        return input_item(run.id, message.content)
    return input_item(run.id, message.text, name="out", role="assistant")
