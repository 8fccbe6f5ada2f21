"""What importing costs, and what is public."""

import subprocess
import sys

import crew

HEAVY = ("ray", "openai", "httpx2", "numpy", "fastapi", "starlette", "xllamacpp", "rich", "typer")


def test_importing_loads_nothing_heavy():
    code = f"import sys, crew; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_nothing_heavy_for_its_help():
    code = (
        "import sys\nsys.argv = ['crew', '--help']\nimport serving.cli\n"
        "try:\n    serving.cli.main()\nexcept SystemExit:\n    pass\n"
        f"heavy = [m for m in {HEAVY[:7]} if m in sys.modules]\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_every_public_name_is_there():
    assert len(crew.__all__) == len(set(crew.__all__))
    for name in crew.__all__:
        assert getattr(crew, name) is not None


def test_agent_with_a_server_loads_nothing_of_mcp_before_its_first_task():
    code = (
        "import sys\nfrom crew import MCP, Agent\nAgent('clerk', tools=[MCP('npx')])\n"
        "assert not {'mcp', 'mcp_types', 'anyio', 'httpx2', 'jsonschema'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tool_is_the_decorator_whatever_was_imported():
    code = (
        "import crew.tool.search\nfrom crew.tool.quote import plain\n"
        "from crew import tool\nassert callable(tool), tool\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
