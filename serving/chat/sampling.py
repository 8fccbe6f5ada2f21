"""How an answer is to be written: what a workflow that has an input field for it gets."""

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from serving.http.fields import Body

__all__ = ["Sampling"]


def _as_list(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


class Sampling(Body):
    """Settings that both chat and responses have.

    A workflow decides itself how its agents answer. One whose input has a field named like a
    setting gets it there; the others never see it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_as_list)] = Field(
        default=None, max_length=16
    )
    user: str | None = None

    @property
    def token_limit(self) -> int | None:
        """How long the answer may be, under whatever name the route has for it."""
        return None

    @property
    def unread_names(self) -> list[str]:
        """The settings that only a workflow with such an input reads, and the unknown ones."""
        handed = [name for name in self.handed_down if name != "user"]
        return [*handed, *(self.model_extra or {})]

    @property
    def handed_down(self) -> dict[str, object]:
        """The settings that were given, by the input's field."""
        given = self.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        limit = self.token_limit
        return given if limit is None else {**given, "max_tokens": limit}
