"""A relay in front of an engine, without a journal: `bytes` passes them on, `objects` reads them.

relay.py bytes|objects ENGINE_URL

Prints its port as JSON. `bytes` is the floor: FastAPI and the client's transport, nothing else.
"""

import json
import socket
import sys

import httpx2
import openai
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

how, engine = sys.argv[1], sys.argv[2]
app = FastAPI()
http = httpx2.AsyncClient(timeout=60)
client = openai.AsyncOpenAI(base_url=engine, api_key="none")


async def passed(body: bytes):
    headers = {"Content-Type": "application/json"}
    async with http.stream(
        "POST", f"{engine}/chat/completions", content=body, headers=headers
    ) as reply:
        async for piece in reply.aiter_raw():
            yield piece


async def read(body: dict):
    async for chunk in await client.chat.completions.create(**body):
        yield f"data: {chunk.model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/v1/chat/completions")
async def relay(request: Request) -> StreamingResponse:
    body = await request.body()
    pieces = passed(body) if how == "bytes" else read({**json.loads(body), "model": "numbers"})
    return StreamingResponse(pieces, media_type="text/event-stream")


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
