"""A chat about the documents in `library/`, however long it gets in a window of 4,096 tokens.

    crew serve rag_chat.py
    python rag_chat.py          # talks with it; Ctrl-C stops an answer, an empty line ends it

What does not fit the window of the model `cheap` any more is summarised by `strong`, once,
and kept with the conversation; the conversation itself stays whole.
"""

import sys
import uuid

from openai import OpenAI

from crew import Agent, Context, History, workflow
from crew.tool.search import document_search

guide = Agent(
    "guide",
    instructions="You answer from the library. Search it first, and name the file. Say so if it is "
    "silent on what you are asked.",
    model="cheap",
    tools=[document_search("library")],
    history=History(summarise_with="strong"),
    max_tokens=500,
)


@workflow
async def chat(ctx: Context, text: str) -> str:
    """Answer a message from the library."""
    return (await ctx.run(guide, text, emit=True)).output


def say(client: OpenAI, text: str, thread: str) -> None:
    """Print an answer while it comes."""
    stream = client.chat.completions.create(
        model="chat",
        messages=[{"role": "user", "content": text}],
        metadata={"thread_id": thread},
        extra_headers={"X-On-Disconnect": "cancel"},  # whoever leaves stops the run
        stream=True,
    )
    with stream:
        for chunk in stream:
            print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
    print()


def main(url: str = "http://127.0.0.1:8000/v1") -> None:
    """Talk, in a conversation of its own."""
    client, thread = OpenAI(base_url=url, api_key="none"), uuid.uuid4().hex
    while text := input("> "):
        try:
            say(client, text, thread)
        except KeyboardInterrupt:
            print(" (stopped)")


if __name__ == "__main__":
    main(*sys.argv[1:])
