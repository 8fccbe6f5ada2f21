"""Values as they are stored: encoded to JSON, and decoded again with validation.

What a node returns is encoded, decoded, and the decoded copy is what goes on, live as on resume;
so a run that was interrupted cannot see other values than one that was not. A copy that is not the
same as what it was made from is refused, whatever lost it.
"""

from crew.value.annotation import describe, union_members
from crew.value.arguments import own_copy, with_own_arguments
from crew.value.aside import aside
from crew.value.codec import Big, Codec
from crew.value.document import document, read_document
from crew.value.fingerprint import canonical_lines
from crew.value.plain import Mismatch
from crew.value.same import Difference, difference
from crew.value.text import canonical, json_text, text_of
from crew.value.weight import BIG, LIGHT, is_big

__all__ = [
    "BIG",
    "LIGHT",
    "Big",
    "Codec",
    "Difference",
    "Mismatch",
    "aside",
    "canonical",
    "canonical_lines",
    "describe",
    "difference",
    "document",
    "is_big",
    "json_text",
    "own_copy",
    "read_document",
    "text_of",
    "union_members",
    "with_own_arguments",
]
