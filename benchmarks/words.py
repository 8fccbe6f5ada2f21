"""What is said in the conversations: random words, the same for everyone."""

import random
import string

TEXT_BYTES = 400


def said(who: str, turn: int) -> str:
    """Return 400 bytes of words of 2 to 10 random letters."""
    source = random.Random(f"{who}{turn}")
    text = ""
    while len(text) < TEXT_BYTES:
        text += "".join(source.choices(string.ascii_lowercase, k=source.randint(2, 10))) + " "
    return text[:TEXT_BYTES]
