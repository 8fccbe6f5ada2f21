"""The LLM deployment: a Ray Serve application of its own that answers OpenAI's routes.

Workflow code is deployed without it: a new workflow never restarts an engine.
"""

from serving.llm.deployment import APP_NAME, ROUTE, build, deploy, shutdown
from serving.llm.settings import LLMSettings, read_settings

__all__ = ["APP_NAME", "ROUTE", "LLMSettings", "build", "deploy", "read_settings", "shutdown"]
