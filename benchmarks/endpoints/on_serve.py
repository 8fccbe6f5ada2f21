"""The relay of bytes as a bare Ray Serve app, or our endpoint on Ray Serve.

on_serve.py bare|crew ENGINE_URL FOLDER

Prints its port, and the processes that answer, as JSON.
"""

import json
import os
import socket
import sys
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray import serve

how, engine, folder = sys.argv[1:4]


def bare():
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @serve.deployment(max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.5})
    @serve.ingress(app)
    class Relay:
        def __init__(self) -> None:
            import httpx2

            self.http = httpx2.AsyncClient(timeout=60)

        @app.post("/v1/chat/completions")
        async def relay(self, request: Request) -> StreamingResponse:
            return StreamingResponse(
                self.passed(await request.body()), media_type="text/event-stream"
            )

        async def passed(self, body: bytes):
            headers = {"Content-Type": "application/json"}
            async with self.http.stream(
                "POST", f"{engine}/chat/completions", content=body, headers=headers
            ) as reply:
                async for piece in reply.aiter_raw():
                    yield piece

    return Relay.bind()


def crew():
    from crew.config import Settings
    from serving.app import bind_app
    from serving.gallery import load_workflows

    settings = Settings(store=f"sqlite:///{folder}/runs.db", base_url=engine, model="numbers")
    return bind_app(load_workflows("chat"), settings=settings)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


if __name__ == "__main__":
    port = free_port()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", num_cpus=4)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run({"bare": bare, "crew": crew}[how](), name="app", route_prefix="/")
    print(json.dumps({"port": port}), flush=True)
    while True:
        time.sleep(60)
