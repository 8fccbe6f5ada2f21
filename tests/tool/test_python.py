"""The python tool."""

import pytest

from crew import ToolError
from crew.tool.python import python_available, python_tool


async def test_code_is_run_and_what_it_prints_comes_back():
    assert python_available() == ""
    assert await python_tool().invoke({"code": "24 * 1024 // 47"}) == "522\n"


async def test_an_error_is_told():
    with pytest.raises(ToolError, match="ZeroDivisionError"):
        await python_tool().invoke({"code": "1 / 0"})


async def test_endless_code_is_stopped():
    with pytest.raises(ToolError, match=r"stopped after 0.5 s"):
        await python_tool(seconds=0.5).invoke({"code": "while True: pass"})


def test_where_nothing_isolates_the_reason_is_told(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "not on linux on riscv64" in python_available()
