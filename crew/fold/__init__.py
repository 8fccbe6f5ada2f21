"""The events of a run, folded: small reducers, each of which keeps one thing of what they come to.

A reducer is plain data that takes in events in order; it reads no clock and does no I/O. Whoever
drives a run composes all that it goes on from, a reader only what it shows. Nothing else reads what
an event holds.
"""

from crew.event import Event, Failure, RunEvent
from crew.fold.accounts import Accounts, amount_of
from crew.fold.acts import Act, Acts
from crew.fold.agents import Agents, Placement, Transcript, Transcripts
from crew.fold.calls import Record, Records, is_act
from crew.fold.costs import Cost, Costs, in_currency, tokens_in
from crew.fold.deadlines import Deadlines
from crew.fold.ends import Ending, EndKind
from crew.fold.lines import Remarks, progress_line
from crew.fold.origin import Origin
from crew.fold.questions import Answer, Question, Questions, QuestionsAsked, readable
from crew.fold.reading import (
    Reducer,
    fold,
    folded,
    is_end,
    is_newer,
    is_parking,
    typed_of,
)
from crew.fold.results import Results, error_data
from crew.fold.spans import Span, Spans
from crew.fold.steps import Activity, Steps
from crew.fold.tally import Tally
from crew.fold.text import Text
from crew.fold.work import FirstText, Outcome, Work, WorkUnderWay

__all__ = [
    "Accounts",
    "Act",
    "Activity",
    "Acts",
    "Agents",
    "Answer",
    "Cost",
    "Costs",
    "Deadlines",
    "EndKind",
    "Ending",
    "Event",
    "Failure",
    "FirstText",
    "Origin",
    "Outcome",
    "Placement",
    "Question",
    "Questions",
    "QuestionsAsked",
    "Record",
    "Records",
    "Reducer",
    "Remarks",
    "Results",
    "RunEvent",
    "Span",
    "Spans",
    "Steps",
    "Tally",
    "Text",
    "Transcript",
    "Transcripts",
    "Work",
    "WorkUnderWay",
    "amount_of",
    "error_data",
    "fold",
    "folded",
    "in_currency",
    "is_act",
    "is_end",
    "is_newer",
    "is_parking",
    "progress_line",
    "readable",
    "tokens_in",
    "typed_of",
]
