"""The LLM deployment on a real local Ray, started in a folder full of traps."""

import asyncio
import time

import openai
import pytest

from crew.config import Settings
from crew.errors import ModelError
from crew.llm.weights import default_weights_path
from serving.access.keys import key_of
from serving.app import bind_app
from serving.gallery import load_workflows
from serving.llm import LLMSettings, deploy, shutdown

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.skipif(default_weights_path() is None, reason="no weights: run `make install`"),
]
SETTINGS = LLMSettings(parallel=1)
SHORT = {
    "model": "embedded",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 3,
}
LONG = {**SHORT, "max_tokens": 3_000, "stream": True}


@pytest.fixture(scope="module")
def ray_among_traps(tmp_path_factory):
    """A quiet local Ray whose processes have folders named like ours first on their path."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("serving", "crew", "workflows"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            "local",  # whatever other clusters there are
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 << 20,
            namespace="crew",
            runtime_env={"working_dir": str(folder)},
        )
        yield ray
        ray.shutdown()


@pytest.fixture
def broken_weights(tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF, but no more")
    return str(file)


async def test_llm_is_deployed_once_streams_stops_and_goes(ray_among_traps, broken_weights):
    with pytest.raises(ModelError, match=r"did not start: .* cannot load .*broken.gguf"):
        await deploy(LLMSettings(model=broken_weights))

    url = await deploy(SETTINGS)
    replica = _replica_of(ray_among_traps)
    assert await deploy(SETTINGS) == url
    assert _replica_of(ray_among_traps) == replica

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        assert [model.id async for model in await client.models.list()] == ["embedded"]
        create = client.chat.completions.create
        stream = await create(**LONG)
        await anext(aiter(stream))
        await stream.close()

        # One slot: this waits until the engine has stopped computing for nobody.
        started = time.monotonic()
        assert (await create(**SHORT)).usage.completion_tokens == 3
        assert time.monotonic() - started < 5

        with pytest.raises(openai.NotFoundError, match="served here: embedded"):
            await create(**{**SHORT, "model": "other"})
        with pytest.raises(openai.BadRequestError, match="tokens long"):
            await create(**{**LONG, "messages": [{"role": "user", "content": "word " * 9_000}]})

    await shutdown()
    await shutdown()
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError):
            await client.models.list()


ECHO = """
from crew.call.context import Context
from crew.run import workflow

@workflow
async def echo(ctx: Context, text: str) -> str:
    return f"{text} ({len(ctx.thread.messages)} before)"
"""


async def test_chat_endpoint_on_serve_leaves_the_engine_alone(ray_among_traps, tmp_path):
    from ray import serve

    (tmp_path / "echo.py").write_text(ECHO)
    settings = Settings(store=f"sqlite:///{tmp_path}/runs.db")
    flows = load_workflows(str(tmp_path / "echo.py"))
    url = (await deploy(SETTINGS)).replace("/llm/", "/c/")
    engine = _replica_of(ray_among_traps)
    keys = [key_of("k2", name="k2", tenant="acme")]
    app = bind_app(flows, settings=settings, api_keys=["k1"], keys=keys)
    serve.run(app, name="crew", route_prefix="/c")
    assert _replica_of(ray_among_traps) == engine
    in_thread = {"extra_body": {"conversation": "t1"}}

    async with openai.AsyncOpenAI(base_url=url, api_key="k1", max_retries=0) as client:
        hi = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **in_thread}
        await client.chat.completions.create(**hi)
        stream = await client.chat.completions.create(**hi, stream=True)
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert said == "hi (2 before)"
        of_acme = client.with_options(api_key="k2")
        reply = await of_acme.chat.completions.create(**hi)
        assert reply.choices[0].message.content == "hi (0 before)"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="other").models.list()
    await asyncio.to_thread(serve.delete, "crew")
    await shutdown()


def _replica_of(ray) -> str:
    actors = ray.util.list_named_actors(all_namespaces=True)
    [replica] = [actor["name"] for actor in actors if "#LLM-" in actor["name"]]
    return replica
