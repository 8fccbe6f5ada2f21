import json
import urllib.request

from crew import ToolCall
from tests.examples.folder import kill
from tests.examples.models import eventually, last

BILLING, DESK = "You settle bills", "You are the front desk"


def billing(body):
    if "B2" in last(body):
        return "Tea is on its way."
    said = [m["role"] for m in body["messages"]].count("tool")
    calls = [
        ToolCall("find_order", {"number": "A7"}),
        ToolCall("refund", {"number": "A7", "cents": 4500}),
    ]
    return calls[said] if said < 2 else "45.00 are on their way."


SAYS = {
    DESK: lambda body: ToolCall("transfer_to_billing"),
    BILLING: billing,
    "You know where": lambda body: "Tomorrow.",
}


def say(client, text):
    return client.chat.completions.create(
        model="support", messages=[{"role": "user", "content": text}], metadata={"thread_id": "c1"}
    )


def get(client, path):
    with urllib.request.urlopen(f"{client.base_url}{path}", timeout=60) as answer:
        return json.load(answer)


def approve(client, run):
    (question,) = get(client, f"runs/{run}")["questions"]
    body = {"key": question["key"], "value": {"approved": True}}
    request = urllib.request.Request(
        f"{client.base_url}runs/{run}/answer",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()
    return question


def test_a_refund_is_approved_over_http_paid_once_and_the_conversation_stays(scene):
    folder, models = scene(SAYS)
    server, client = folder.serve("triage.py")
    waiting = say(client, "My kettle, order A7, is broken.")
    run = waiting.crew["run_id"]
    assert waiting.crew["status"] == "waiting"

    models.hold(4)
    assert approve(client, run)["question"].startswith("May refund be called with")
    models.wait_until_held()
    kill(server)
    models.let_go()
    client.close()

    _, client = folder.serve("triage.py")
    done = eventually(lambda: (it := get(client, f"runs/{run}"))["status"] == "completed" and it)
    assert done["output"] == "45.00 are on their way."
    assert (folder.path / "refunds.csv").read_text() == "A7,4500\n"
    assert (len(models.calls), models.repeated) == (4, [2])

    models.asked.clear()
    assert say(client, "And B2?").choices[0].message.content == "Tea is on its way."
    assert models.asked == [BILLING]
    client.close()
