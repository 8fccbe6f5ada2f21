from tests.core.conftest import url

__all__ = ["url"]
