"""Calls: their records, their places in the program, effects, and a node's context."""
