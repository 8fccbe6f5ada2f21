"""The events of a run, folded: small reducers, each of which keeps one thing of what they come to.

A reducer is plain data that takes in events in order; it reads no clock and does no I/O. Whoever
drives a run composes all that it goes on from, a reader only what it shows. Nothing else reads what
an event holds.
"""

from typing import TYPE_CHECKING

from crew.later import loading

if TYPE_CHECKING:
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

# What is not named is not loaded: whoever drives a run needs a few of them.
_LATER = {
    "Accounts": "crew.fold.accounts",
    "Act": "crew.fold.acts",
    "Activity": "crew.fold.steps",
    "Acts": "crew.fold.acts",
    "Agents": "crew.fold.agents",
    "Answer": "crew.fold.questions",
    "Cost": "crew.fold.costs",
    "Costs": "crew.fold.costs",
    "Deadlines": "crew.fold.deadlines",
    "EndKind": "crew.fold.ends",
    "Ending": "crew.fold.ends",
    "Event": "crew.event",
    "Failure": "crew.event",
    "FirstText": "crew.fold.work",
    "Origin": "crew.fold.origin",
    "Outcome": "crew.fold.work",
    "Placement": "crew.fold.agents",
    "Question": "crew.fold.questions",
    "Questions": "crew.fold.questions",
    "QuestionsAsked": "crew.fold.questions",
    "Record": "crew.fold.calls",
    "Records": "crew.fold.calls",
    "Reducer": "crew.fold.reading",
    "Remarks": "crew.fold.lines",
    "Results": "crew.fold.results",
    "RunEvent": "crew.event",
    "Span": "crew.fold.spans",
    "Spans": "crew.fold.spans",
    "Steps": "crew.fold.steps",
    "Tally": "crew.fold.tally",
    "Text": "crew.fold.text",
    "Transcript": "crew.fold.agents",
    "Transcripts": "crew.fold.agents",
    "Work": "crew.fold.work",
    "WorkUnderWay": "crew.fold.work",
    "amount_of": "crew.fold.accounts",
    "error_data": "crew.fold.results",
    "fold": "crew.fold.reading",
    "folded": "crew.fold.reading",
    "in_currency": "crew.fold.costs",
    "is_act": "crew.fold.calls",
    "is_end": "crew.fold.reading",
    "is_newer": "crew.fold.reading",
    "is_parking": "crew.fold.reading",
    "progress_line": "crew.fold.lines",
    "readable": "crew.fold.questions",
    "tokens_in": "crew.fold.costs",
    "typed_of": "crew.fold.reading",
}

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


__getattr__ = loading(__name__, _LATER)
