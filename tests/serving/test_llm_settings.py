import ast
import importlib.util
import inspect
from pathlib import Path

import pytest

from crew.errors import ExtraMissing, SettingsInvalid
from serving.llm import LLMSettings, build, read_settings
from serving.llm.vllm import builder_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # ray's own models

VLLM = LLMSettings(engine="vllm", model="Qwen/Qwen3.5-4B", num_replicas=2, max_replicas=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_queue_requests": 1}, "unknown setting 'max_queue_requests'; did you mean 'max_q"),
        ({"engine": "sglang"}, "engine: "),
        ({"engine": "vllm"}, "needs a model"),
        ({"num_replicas": 0}, "num_replicas: "),
        ({"tool_parser": "hermes"}, "tool_parser is a setting of engine 'vllm'"),
        ({"router": "prefix"}, "router 'prefix' needs engine 'vllm'"),
        ({"num_replicas": 3, "max_replicas": 2}, "must not be below"),
    ],
)
def test_setting_that_does_not_fit_is_named(values, message):
    with pytest.raises(SettingsInvalid, match=message):
        read_settings(values)


def test_fingerprint_changes_with_a_setting_alone():
    assert read_settings({}).fingerprint == LLMSettings().fingerprint
    assert read_settings({"parallel": 2}).fingerprint != LLMSettings().fingerprint


@pytest.mark.parametrize(
    ("settings", "model_id"),
    [
        (LLMSettings(), "embedded"),
        (LLMSettings(model="/models/Some-1B.Q4.gguf"), "Some-1B.Q4"),
        (VLLM, "Qwen3.5-4B"),
        (LLMSettings(served_name="small"), "small"),
    ],
)
def test_model_is_called_by_its_own_name_or_the_given_one(settings, model_id):
    assert settings.model_id == model_id


def test_vllm_limits_are_finite_and_tokens_are_not_held_back():
    config = builder_config(VLLM, name="LLM-x")
    [llm] = config["llm_configs"]

    assert llm["experimental_configs"] == {"stream_batching_interval_ms": 0}
    for deployment in (llm["deployment_config"], config["ingress_deployment_config"]):
        assert 0 < deployment["max_ongoing_requests"] < 1_000
        assert 0 < deployment["max_queued_requests"] < 10_000
        assert deployment["autoscaling_config"]["max_replicas"] == 4


def test_vllm_requests_stay_with_their_session_or_prefix():
    def router(**more):
        config = builder_config(VLLM.model_copy(update=more), name="x")
        deployment = config["llm_configs"][0]["deployment_config"]
        return deployment.get("request_router_config", {}).get("request_router_class", "")

    assert router(router="session").endswith(":ConsistentHashRouter")
    assert router(router="prefix").endswith(":PrefixCacheAffinityRouter")
    assert router(router="balanced") == ""


def test_vllm_without_gpus_is_told_how_to_use_the_cpus():
    on_cpus = VLLM.model_copy(update={"num_gpus": 0, "environment": {"HF_HOME": "/models"}})
    [llm] = builder_config(on_cpus, name="x")["llm_configs"]

    assert llm["placement_group_config"] == {"bundles": [{"CPU": 1}]}
    assert llm["runtime_env"]["env_vars"]["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert llm["runtime_env"]["env_vars"]["HF_HOME"] == "/models"


def test_every_key_of_the_vllm_config_is_one_that_ray_knows():
    config = builder_config(VLLM.model_copy(update={"accelerator_type": "L4"}), name="x")
    [llm] = config["llm_configs"]

    assert set(config) <= _fields("builder.py", "LLMServingArgs", "ingress")
    assert set(llm) <= _fields("llm_config.py", "LLMConfig", "configs")
    from ray import serve
    from ray.serve.config import AutoscalingConfig

    known = set(inspect.signature(serve.deployment).parameters)
    for deployment in (llm["deployment_config"], config["ingress_deployment_config"]):
        assert set(deployment) <= known
        assert set(deployment["autoscaling_config"]) <= set(AutoscalingConfig.model_fields)


def _fields(file: str, name: str, folder: str) -> set[str]:
    """Fields of a class of ray.serve.llm, which cannot be imported without vLLM."""
    ray = Path(importlib.util.find_spec("ray").origin).parent
    tree = ast.parse((ray / "llm/_internal/serve/core" / folder / file).read_text())
    [found] = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name]
    return {item.target.id for item in found.body if isinstance(item, ast.AnnAssign)}


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is here")
def test_vllm_that_is_not_installed_is_named_with_its_install_line():
    with pytest.raises(ExtraMissing, match=r'pip install "raycrew\[gpu\]"'):
        build(VLLM)
