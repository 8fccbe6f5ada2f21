"""What a model file says about itself."""

import mmap
import struct
from pathlib import Path

from crew.errors import ModelError

__all__ = ["check_gguf", "knows_tools"]

MAGIC = b"GGUF"
TEMPLATE = b"tokenizer.chat_template"
STRING_HEAD = struct.Struct("<IQ")

# The vocabulary stands before the template, and is some megabytes long.
HEADER_BYTES = 64 << 20


def check_gguf(path: Path) -> Path:
    """Return the path of what begins like a GGUF file.

    Raises:
        ModelError: nothing is there, or something else.
    """
    if not path.is_file():
        raise ModelError(
            message=f"no model file at {path}; CREW_MODEL takes a GGUF file's path, "
            "owner/repository/file.gguf, or nothing for the default"
        )
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ModelError(
                message=f"{path} is not a GGUF file; convert the model to GGUF, or serve it and "
                "set CREW_BASE_URL"
            )
    return path


def knows_tools(path: Path) -> bool:
    """Tell whether the file's chat template has a place for tools.

    Source: a string's layout in GGUF version 3 is its type (8), its length, its bytes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = content.find(TEMPLATE, 0, HEADER_BYTES)
        if found < 0:
            return False
        start = found + len(TEMPLATE) + STRING_HEAD.size
        _, length = STRING_HEAD.unpack(content[start - STRING_HEAD.size : start])
        return b"tools" in content[start : start + length]
