"""The floor of an import: what every durable workflow in Python needs."""

import asyncio
import sqlite3

from pydantic import BaseModel

assert asyncio
assert sqlite3
assert BaseModel
