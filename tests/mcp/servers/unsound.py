"""A server that misbehaves, in the way that its argument names; without any SDK."""

import json
import os
import sys
import time

WAY = sys.argv[1]
OBJECT = {"type": "object", "properties": {}}


def send(message: dict) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def hang() -> None:
    time.sleep(3600)


def flood(line: str) -> None:
    while True:
        sys.stdout.write(line)


def tools() -> list[dict]:
    tool = {"name": "work", "description": "Work.", "inputSchema": OBJECT}
    match WAY:
        case "many":
            return [{**tool, "name": f"work{number}"} for number in range(5_000)]
        case "twice":
            return [tool, {**tool, "description": "Another one."}]
        case "alike":
            return [tool, {**tool, "name": "wor.k"}, {**tool, "name": "wor k"}]
        case "no-object":
            return [tool, {**tool, "name": "odd", "inputSchema": {"type": "string"}}]
        case "schemas":
            wrong = {"n": {"type": "whatever"}}
            refers = {"n": {"$ref": "https://x.example/n"}}
            return [
                tool,
                {**tool, "name": "wrong", "inputSchema": {**OBJECT, "properties": wrong}},
                {**tool, "name": "refers", "inputSchema": {**OBJECT, "properties": refers}},
                {**tool, "name": "wide", "inputSchema": {**OBJECT, "title": "x" * 100_000}},
            ]
        case "results":
            return [{**tool, "name": name} for name in RESULTS]
        case "lie":
            claims = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
            return [{**tool, "outputSchema": claims}]
        case "final-answer":
            return [{**tool, "name": "final_answer"}, {**tool, "name": "model"}]
        case _:
            return [tool]


RESULTS = ("no-picture", "no-base64", "long", "parts", "empty", "sound", "stderr", "work")


def result(way: str) -> object:
    text = [{"type": "text", "text": "done"}]
    match way:
        case "lie":
            return {"content": text, "structuredContent": {"n": "many"}}
        case "no-result":
            return {"content": 5}
        case "no-picture":
            return {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}
        case "no-base64":
            return {"content": [{"type": "image", "data": "not it", "mimeType": "image/png"}]}
        case "long":
            return {"content": [{"type": "text", "text": "long " * 1_000_000}]}
        case "parts":
            return {"content": text * 2_000}
        case "empty":
            return {"content": []}
        case "sound":
            return {"content": [{"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}, *text]}
        case _:
            return {"content": text}


def call(number: object, tool: str) -> None:
    way = tool if WAY == "results" else WAY
    match way:
        case "hang":
            hang()
        case "die":
            sys.stderr.write("out of paper\n")
            os._exit(3)
        case "flood":
            progress = {"progressToken": number, "progress": 1}
            said = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
            flood(json.dumps(said) + "\n")
        case "junk":
            flood("what is this?\n")
        case "endless":
            flood("x" * 65_536)
        case "stderr":
            sys.stderr.write("noise " * 2_000_000)
        case "wrong-id":
            send({"id": "none-of-yours", "result": result(way)})
            hang()
    if way == "refuse":
        send({"id": number, "error": {"code": -32000, "message": "not today"}})
    else:
        send({"id": number, "result": result(way)})


def answer(request: dict) -> None:
    number = request.get("id")
    match request.get("method"):
        case "initialize" if WAY == "hang-at-first":
            hang()
        case "initialize" if WAY == "die-at-first":
            sys.stderr.write(f"no key {os.environ.get('TOKEN')}\n")
            os._exit(3)
        case "initialize":
            info = {"name": WAY, "version": "1"}
            version = request["params"]["protocolVersion"]
            capable = {"protocolVersion": version, "capabilities": {"tools": {}}}
            send({"id": number, "result": {**capable, "serverInfo": info}})
        case "tools/list" if WAY == "hang-at-list":
            hang()
        case "tools/list" if WAY == "no-list":
            send({"id": number, "result": {"tools": "none"}})
        case "tools/list" if WAY == "pages":
            send({"id": number, "result": {"tools": tools(), "nextCursor": "more"}})
        case "tools/list":
            send({"id": number, "result": {"tools": tools()}})
        case "tools/call":
            call(number, request["params"]["name"])
        case _ if number is not None:
            send({"id": number, "error": {"code": -32601, "message": "no such method"}})


for line in sys.stdin:
    answer(json.loads(line))
