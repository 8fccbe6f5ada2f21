"""The research team: four ready-made agents, and the checks that keep what they say honest.

Each module holds one agent, the type of what it answers, its prompt, and the plain code that
checks the answer. A strong model passes these checks nearly always; a weak one is caught by them,
and the code's own ranking, suggestion or wording takes the place of what it made up.
"""

from crew.team.coder import Code, Ran, coder, coder_prompt, run_code, runnable, worked_out
from crew.team.documents import TOY_NOTE, documents_folder, find, is_toy, proven
from crew.team.figures import figures
from crew.team.planner import Plan, planner, settled, unplanned
from crew.team.searcher import Quote, Selection, candidates, searcher, searcher_prompt, selected
from crew.team.summariser import (
    Claim,
    Draft,
    arranged,
    quoted,
    shown,
    summariser,
    summariser_prompt,
)

__all__ = [
    "TOY_NOTE",
    "Claim",
    "Code",
    "Draft",
    "Plan",
    "Quote",
    "Ran",
    "Selection",
    "arranged",
    "candidates",
    "coder",
    "coder_prompt",
    "documents_folder",
    "figures",
    "find",
    "is_toy",
    "planner",
    "proven",
    "quoted",
    "run_code",
    "runnable",
    "searcher",
    "searcher_prompt",
    "selected",
    "settled",
    "shown",
    "summariser",
    "summariser_prompt",
    "unplanned",
    "worked_out",
]
