"""The stores of the core's tests."""

from tests.core.conftest import url

__all__ = ["url"]
