"""Models: by name, one after the other, with settings, prices and limits."""

from typing import Any

from crew import Agent, Context, Fallback, ModelError, ModelSettings
from tests.capabilities.capability import capability, echo, model

TOML = """
[models.strong]
base_url = "{url}"
model = "big"
price_in = 1000.0
price_out = 2000.0
max_output = 50

[models.gentle]
base_url = "{url}"
model = "small"
requests_per_second = 100
"""
"""What `crew.toml` holds where the programs are started."""

strong = Agent("strong", model="strong")


@capability(
    "models by name",
    says={"big": {0: "I am big.", 1: "I am still big."}},
    struck="big 1",
    outcome="I am still big.",
)
async def models_by_name(ctx: Context, text: str) -> str:
    first = await ctx.run(strong, text)
    return (await ctx.run(strong, "And now?", messages=first.messages)).output


@capability(
    "costs in money",
    says={"big": ["That was dear."]},
    struck="big 0",
    outcome=0.02,
)
async def costs(ctx: Context, text: str) -> float:
    return (await ctx.run(strong, text)).usage.money


plain = Agent("plain")


@capability(
    "the default model",
    calls=1,
    struck="echo 0: the default model",
    outcome="x!",
)
async def default_model(ctx: Context, text: str) -> str:
    return (await ctx.run(plain, f"{text}: x")).output


steady = Agent("steady", model=Fallback(model("refusing"), model("helpful")))


@capability(
    "fallback models",
    says={"refusing": [500], "helpful": ["I stand in."]},
    struck="helpful 0",
    outcome="I stand in.",
)
async def fallback_models(ctx: Context, text: str) -> str:
    return (await ctx.run(steady, text)).output


doomed = Agent("doomed", model=model("dead"))


@capability(
    "a model that fails",
    says={"dead": [500]},
    calls=2,
    struck="echo 0",
    outcome="without it!",
)
async def failing_model(ctx: Context, text: str) -> str:
    said = "with it"
    try:
        await ctx.run(doomed, text)
    except ModelError:
        said = "without it"
    return (await ctx.run(echo, f"{text}: {said}")).output


def settings_of(body: Any) -> str:
    return f"{body['temperature']} {body['seed']} {body.get('max_tokens')}"


tuned = Agent(
    "tuned",
    model=model("tuned"),
    settings=ModelSettings(temperature=0.5, seed=7, max_tokens=20),
)


@capability(
    "model settings",
    says={"tuned": [settings_of]},
    struck="tuned 0",
    outcome="0.5 7 20",
)
async def model_settings(ctx: Context, text: str) -> str:
    return (await ctx.run(tuned, text)).output


gentle = Agent("gentle", model="gentle")


@capability(
    "rate limits",
    says={"small": lambda body: body["messages"][-1]["content"]},
    calls=4,
    struck="small 0: rate limits 3",
    outcome=["rate limits 0", "rate limits 1", "rate limits 2", "rate limits 3"],
)
async def rate_limits(ctx: Context, text: str) -> list[str]:
    answers = await ctx.map(gentle, [f"{text} {number}" for number in range(4)])
    return [answer.output for answer in answers]
