"""`GET /v1/models`: workflows as models."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crew.graph import Workflow
from crew.message import Json
from serving.access.door import Door
from serving.http.errors import ApiError

__all__ = ["find", "list_models", "retrieve_model"]


async def list_models(request: Request) -> Response:
    """Every workflow served here."""
    door: Door = request.app.state.door
    data = [_model(name, door) for name in door.workflows]
    return JSONResponse({"object": "list", "data": data})


async def retrieve_model(request: Request) -> Response:
    """One of them; the id may hold slashes."""
    door: Door = request.app.state.door
    model = request.path_params["model"]
    workflow = find(door, model)
    shape = _model(model, door)
    shape["crew"] |= {
        "input": workflow.input_codec.schema(),
        "output": workflow.output_codec.schema(),
        "graph": _graph(workflow),
    }
    return JSONResponse(shape)


def find(door: Door, model: str) -> Workflow:
    """The workflow served as `model`.

    Raises:
        ApiError: 404, there is none.
    """
    try:
        return door.workflow(model)
    except KeyError as error:
        raise ApiError(
            status=404, message=error.args[0], param="model", code="model_not_found"
        ) from error


def _model(name: str, door: Door) -> dict[str, Json]:
    version = door.workflow(name).version
    facts = {"id": name, "object": "model", "created": door.opened_at, "owned_by": "crew"}
    return {**facts, "crew": {"version": version}}


def _graph(workflow: Workflow) -> dict[str, Json]:
    """What a drawing of the workflow is made of; the run's input and output are nodes too."""
    nodes = [{"name": "input", "kind": "input"}]
    nodes += [
        {"name": node.name, "kind": "join" if node.joins else "node"}
        for node in workflow.build().nodes.values()
    ]
    nodes.append({"name": "output", "kind": "output"})
    edges = [
        {"from": edge.giver, "to": edge.taker, "type": edge.type, "list": edge.is_list}
        for edge in workflow.edges()
    ]
    return {"nodes": nodes, "edges": edges}
