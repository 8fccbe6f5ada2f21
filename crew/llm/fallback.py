"""Models that stand in for each other."""

from crew.errors import GraphError
from crew.llm import Model

__all__ = ["Fallback"]


class Fallback:
    """What an agent asks in order: the next model where one gave no usable reply (`ModelError`).

    Each try is a call of its own in the journal, so that none with an end on record is made again,
    and a budget sees what each cost. A refusal of the content is an answer, and no try follows it;
    nor does one follow when a budget is spent.

    Args:
        models: each a name in `crew.toml`, or a model.

    Raises:
        GraphError: there is none, or one is something else.
    """

    def __init__(self, *models: "Model | str") -> None:
        if not models:
            raise GraphError(message='Fallback needs models: Fallback("strong", "cheap")')
        for model in models:
            if not isinstance(model, str | Model):
                raise GraphError(
                    message=f"Fallback takes names of crew.toml and models, not {model!r:.200}"
                )
        self.models = models

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self.models))})"
