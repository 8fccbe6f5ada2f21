"""`/v1/runs`: runs as they are, with their events, for whoever wants more than a chat."""

from serving.http.operation import Operation
from serving.runs.body import AnswerBody, EventsQuery, ForkBody, RunsQuery, StartBody
from serving.runs.handlers import (
    answer_run,
    cancel_run,
    create_run,
    fork_run,
    list_run_events,
    list_runs,
    retrieve_run,
)

__all__ = ["OPERATIONS"]

OPERATIONS = [
    Operation(
        method="POST",
        path="/v1/runs",
        summary="Start a run; the header Idempotency-Key makes a repeated request the same run.",
        handle=create_run,
        body=StartBody,
        errors=[404, 409],
    ),
    Operation(
        method="GET",
        path="/v1/runs",
        summary="The caller's runs, the newest first.",
        handle=list_runs,
        query=RunsQuery,
        errors=[400, 404],
    ),
    Operation(
        method="GET",
        path="/v1/runs/{run}",
        summary="One run.",
        handle=retrieve_run,
        errors=[404],
    ),
    Operation(
        method="GET",
        path="/v1/runs/{run}/events",
        summary="A run's events behind an offset: a stream to its end; with stream=false a page.",
        handle=list_run_events,
        query=EventsQuery,
        streams=True,
        errors=[400, 404],
    ),
    Operation(
        method="POST",
        path="/v1/runs/{run}/answer",
        summary="Answer a question of a run.",
        handle=answer_run,
        body=AnswerBody,
        errors=[404, 409],
    ),
    Operation(
        method="POST",
        path="/v1/runs/{run}/cancel",
        summary="Stop a run; one that has ended is left as it is.",
        handle=cancel_run,
        errors=[404],
    ),
    Operation(
        method="POST",
        path="/v1/runs/{run}/fork",
        summary="Start a new run from a prefix of another one's journal.",
        handle=fork_run,
        body=ForkBody,
        errors=[404],
    ),
]
