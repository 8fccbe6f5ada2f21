"""LiteLLM's proxy in front of an engine.

    litellm_proxy.py ENGINE_URL FOLDER

Prints its port as JSON once it answers.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

engine, folder = sys.argv[1:3]


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    offered = {"model": "openai/numbers", "api_base": engine, "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "numbers", "litellm_params": offered}],
        # It listens on loopback alone, as the others here do.
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    config = Path(folder) / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    litellm = Path(sys.executable).with_name("litellm")
    # Its map of prices is else fetched.
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [str(litellm), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--telemetry", "False"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as proxy:
        signal.signal(signal.SIGTERM, lambda *_: proxy.terminate())
        while not _answers(port):
            if proxy.poll() is not None:
                sys.exit("LiteLLM's proxy ended before it answered")
            time.sleep(0.1)
        print(json.dumps({"port": port}), flush=True)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
