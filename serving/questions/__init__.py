"""`/v1/questions`: what runs ask of people, for whoever may answer it."""

from serving.http.operation import Operation
from serving.questions.listing import QuestionsQuery, list_questions

__all__ = ["OPERATIONS"]

OPERATIONS = [
    Operation(
        method="GET",
        path="/v1/questions",
        summary="Open questions that the caller may answer, those of the newest runs first.",
        handle=list_questions,
        query=QuestionsQuery,
        errors=[400, 404],
    ),
]
