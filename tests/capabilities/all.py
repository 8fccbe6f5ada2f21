"""Every capability, by its name."""

from tests.capabilities import tools
from tests.capabilities.capability import ALL

__all__ = ["ALL", "tools"]
