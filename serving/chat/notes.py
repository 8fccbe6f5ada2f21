"""What of a chat its workflow never sees."""

from crew.graph import Workflow
from serving.chat.body import ChatBody
from serving.chat.question import takes
from serving.chat.sampling import Sampling

__all__ = ["unread", "unread_names"]


def unread(
    workflow: Workflow,
    body: ChatBody,
    *,
    thread: str | None,
    placeholder: tuple[str, str] | None = None,
) -> list[str]:
    """Return a sentence for each thing in a request that is not read.

    Args:
        workflow: that is called.
        body: the request's.
        thread: the conversation that was named.
        placeholder: a header that names none, and what it holds.
    """
    notes = list[str]()
    if placeholder is not None:
        header, value = placeholder
        notes.append(f"{header} is {value!r:.50}, which is no conversation's id")
    if not thread and body.history and not takes(workflow, "history"):
        how = "name a thread (metadata.thread_id, X-Thread-Id) to be remembered"
        notes.append(f"only the last message was read; {how}")
    if body.instructed and not takes(workflow, "instructions"):
        notes.append("the system message was not read; the workflow has no input `instructions`")
    return [*notes, *unread_names(workflow, body)]


def unread_names(workflow: Workflow, body: Sampling) -> list[str]:
    """Return a sentence that names the settings of a request that are not read; none if all are."""
    names = [name for name in body.unread_names if not takes(workflow, name)]
    return [f"not read, as the workflow has no such input: {', '.join(names)}"] if names else []
