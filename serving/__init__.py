"""Doors and engines: what lets people and programs reach workflows, and agents reach a model."""
