from tests.core.conftest import memory, runtime, url

__all__ = ["memory", "runtime", "url"]
