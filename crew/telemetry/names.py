"""The names of OpenTelemetry's GenAI conventions, in one place: they still change.

Source: open-telemetry/semantic-conventions-genai, status *Development*.
"""

CONVENTIONS = "0.1.0"
"""The release of the conventions that these names are of."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
AGENT = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
TOOL = "gen_ai.tool.name"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
ERROR = "error.type"

INVOKE_WORKFLOW = "invoke_workflow"
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

UNKNOWN = "unknown"
"""The provider of a model that does not say who computes for it."""

RUN = "crew.run.id"
VERSION = "crew.workflow.version"
PATH = "crew.path"
OUTCOME = "crew.outcome"
