"""A person's answer to whether a tool may be called."""

import functools

from crew.define import frozen
from crew.message import Json
from crew.value import Codec

__all__ = ["SCHEMA", "Approval", "codec", "read"]

SCHEMA: dict[str, Json] = {"type": "boolean"}
"""As whoever shows the question sees it: a yes or no; that reasons are taken, too, is a bonus."""


@frozen
class Approval:
    """Whether a call may be made, and why not; `True` and `False` say the same without a reason."""

    approved: bool
    reason: str = ""


@functools.cache
def codec() -> Codec:
    """Return what tells an answer from anything else."""
    return Codec(bool | Approval, where="the answer to whether a tool may be called")


def read(answer: Json) -> Approval:
    """Return an answer that was recorded."""
    found: bool | Approval = codec().read(answer)
    return Approval(approved=found) if isinstance(found, bool) else found
