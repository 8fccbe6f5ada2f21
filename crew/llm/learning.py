"""One endpoint's refusals: what is learnt of them, tried, kept once it proves true, and said."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from crew.errors import ModelError
from crew.llm import ModelReply, ModelRequest
from crew.llm.dialect import REFUSALS, Dialect, Lesson, lesson, rendered
from crew.llm.sight import cannot_take, kinds_of, refused_kind

__all__ = ["Ask", "Learning"]

logger = logging.getLogger(__name__)

Ask: TypeAlias = Callable[[Dialect], Awaitable[ModelReply]]
"""Sends a request in a dialect."""


class Learning:
    """What is known of an endpoint by what it refused.

    Args:
        endpoint: its address.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.facts: Dialect = frozenset()

    async def answered(
        self, request: ModelRequest, ask: Ask, known: Dialect, *, model: str, stream: bool
    ) -> ModelReply:
        """Ask in a dialect, and in others as long as refusals teach any.

        Args:
            request: what is asked.
            ask: asks it.
            known: the dialect to begin with.
            model: named in errors.
            stream: whether the answer comes as a stream.

        Raises:
            ModelError: there is no answer; or the model takes no images, or no files.
        """
        self._refuse_unseen(request, model)
        dialect, refused = known, None
        while True:
            try:
                reply = await ask(dialect)
                break
            except ModelError as error:
                self._look_for_blindness(error, request, model)
                found = self._lesson(error, request, dialect, stream=stream)
                if found is None and refused is not None and error.status in REFUSALS:
                    raise refused from error  # a guess that proved wrong tells less
                if found is None:
                    raise
                refused = (refused or error) if found.is_guess else None
                dialect |= {found.fact}
        self._keep(dialect - known)
        return reply

    def _refuse_unseen(self, request: ModelRequest, model: str) -> None:
        for kind in kinds_of(request) if self.facts else ():
            if _none(kind) in self.facts:
                raise cannot_take(kind, model, self._endpoint)

    def _look_for_blindness(self, error: ModelError, request: ModelRequest, model: str) -> None:
        kind = None if error.status is None else refused_kind(error.message, kinds_of(request))
        if kind is not None:
            self.facts |= {_none(kind)}
            raise cannot_take(kind, model, self._endpoint, error.message) from error

    def _lesson(
        self, error: ModelError, request: ModelRequest, dialect: Dialect, *, stream: bool
    ) -> Lesson | None:
        sent = {*rendered(request, "", dialect, stream=stream), "cache_salt"}
        return lesson(error, request, sent, dialect)

    def _keep(self, facts: Dialect) -> None:
        for fact in sorted(facts - self.facts):
            logger.warning("model.learnt", extra={"endpoint": self._endpoint, "fact": fact})
        self.facts |= facts


def _none(kind: str) -> str:
    return f"no {kind}"
