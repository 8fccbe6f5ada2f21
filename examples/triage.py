"""Customer support: a desk hands conversations on, and a manager approves what is expensive.

    crew keys new --tenant shop --name web
    crew keys new --tenant shop --name eva --role manager
    crew serve triage.py --keys keys.toml      # customers chat with the model `support`

A conversation stays with whom it was handed to. A refund above 10.00 waits for a manager, for days
if need be (`GET /v1/questions`, `POST /v1/runs/{id}/answer`, or the page at `/`), and is paid once,
whatever is restarted meanwhile.
"""

from pathlib import Path

from pydantic import BaseModel

from crew import Agent, Context, ToolError, tool, workflow

LEDGER = Path("refunds.csv")
"""Stands for the bank."""


class Order(BaseModel):
    number: str
    item: str
    cents: int
    state: str


ORDERS = {
    "A7": Order(number="A7", item="a kettle", cents=4500, state="delivered"),
    "B2": Order(number="B2", item="green tea", cents=800, state="on its way"),
}
"""Stands for the shop's database."""


@tool(effect="read")
async def find_order(number: str) -> Order:
    """Look an order up."""
    if number not in ORDERS:
        raise ToolError(message=f"there is no order {number!r}; ask for the number again")
    return ORDERS[number]


@tool(effect="once", approve=lambda call: call.cents > 1000, to="manager")
def refund(number: str, cents: int) -> str:
    """Pay money back.

    Args:
        number: of the order.
        cents: how much.
    """
    with LEDGER.open("a") as ledger:
        ledger.write(f"{number},{cents}\n")
    return f"{cents / 100:.2f} go back for order {number}"


billing = Agent(
    "billing",
    description="Invoices, payments, refunds.",
    instructions="You settle bills. Look an order up before you refund it, at most at its price.",
    model="strong",
    tools=[find_order, refund],
    history=True,
)
shipping = Agent(
    "shipping",
    description="Where a parcel is, and when it arrives.",
    instructions="You know where parcels are. Look the order up; be brief.",
    model="cheap",
    tools=[find_order],
    history=True,
)
desk = Agent(
    "desk",
    instructions="You are the front desk of a shop. Hand the customer on to who can help.",
    model="cheap",
    handoffs=[billing, shipping],
    history=True,
)


@workflow
async def support(ctx: Context, text: str) -> str:
    """Answer a customer's message."""
    return (await ctx.run(desk, text, emit=True)).output
