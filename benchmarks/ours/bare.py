"""Ours: import crew, and nothing else."""

import crew

assert crew
