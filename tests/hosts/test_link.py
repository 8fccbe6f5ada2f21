"""A link between two processes: what is said over it comes in order and once, or is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crew.errors import Fenced, LinkRefused
from crew.hosts import HostLost
from crew.hosts.link import Address, Answer, Door, Link, Message, dial
from crew.hosts.link import door as door_module
from crew.hosts.link import link as link_module
from crew.hosts.link.frame import Item, encode, frame_of
from tests.hosts.certificates import certificates
from tests.hosts.relay import Relay

SECONDS = 20.0
MANY = 2_000


@dataclass
class End:
    """One end of a link: what came to it, and what it does about that."""

    got: list[Message] = field(default_factory=list)
    over: int = 0
    cancelled: list[str] = field(default_factory=list)
    then: Callable[[Link, Message], Awaitable[Answer | None]] | None = None
    links: list[Link] = field(default_factory=list)

    def link(self) -> Link:
        link = Link(self.handle, self.end)
        self.links.append(link)
        return link

    def end(self, link: Link) -> None:
        self.over += 1

    async def handle(self, link: Link, message: Message) -> Answer | None:
        self.got.append(message)
        try:
            if self.then is not None:
                return await self.then(link, message)
        except asyncio.CancelledError:
            self.cancelled.append(message.verb)
            raise
        return Answer(message.body, message.parts)


@contextlib.asynccontextmanager
async def linked(near: End, far: End) -> AsyncIterator[tuple[Link, Relay]]:
    """Two ends with a relay between them; yields the near one's link."""
    door = await Door.open(far.link, token="t")
    async with asyncio.timeout(SECONDS), Relay(door.address.port) as relay:
        link = await dial(Address("127.0.0.1", relay.port, "t"), near.link)
        try:
            yield link, relay
        finally:
            link.close()
            await door.close()
    for each in (*near.links, *far.links):
        await until(lambda each=each: each.is_over)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


async def test_what_is_said_comes_in_order_whoever_asks_or_sends_it():
    near, far = End(), End()
    async with linked(near, far) as (link, _):
        work = link.work("r", 1, "p")
        asked = []
        for number in range(MANY):
            if number % 3:
                asked.append(asyncio.create_task(work.ask("ask", number)))
                await asyncio.sleep(0)
            else:
                await work.send("send", number)
        answers = [answer.body for answer in await asyncio.gather(*asked)]
        assert answers == [number for number in range(MANY) if number % 3]
        assert [message.body for message in far.got] == list(range(MANY))
        assert far.got[0] == Message("send", "r", 1, "p", 0)


async def test_both_ends_ask_each_other_about_what_they_are_asked():
    async def back(link: Link, message: Message) -> Answer | None:
        number = message.body
        return Answer(0) if not number else await link.ask(Message("more", body=number - 1))

    near, far = End(then=back), End(then=back)
    async with linked(near, far) as (link, _):
        assert (await link.ask(Message("more", body=101))).body == 0
        assert (len(near.got), len(far.got)) == (51, 51)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "send", "pass", "sleep", "break", "cut", "heal"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OPERATIONS)
async def test_of_what_was_sent_a_beginning_came_once_and_all_else_is_known_to_be_lost(operations):
    near, far = End(), End()
    said: dict[bool, list[int]] = {True: [], False: []}
    answers: dict[int, asyncio.Task[Answer]] = {}
    async with linked(near, far) as (link, relay):
        ends = {True: link, False: far.links[0]}
        for number, (what, side) in enumerate(operations):
            if what in ("ask", "send"):
                with contextlib.suppress(HostLost):
                    message = Message(what, body=number, parts=(b"x" * number,))
                    if what == "ask":
                        answers[number] = asyncio.create_task(ends[side].ask(message))
                        await asyncio.sleep(0)
                    else:
                        await ends[side].send(message, 0)
                    said[side].append(number)
            else:
                await _disturb(what, relay)
        relay.heal()
        with contextlib.suppress(HostLost):
            await asyncio.gather(*(end.send(Message("last"), 0) for end in ends.values()))
        await until(lambda: link.is_over or all(_is_last(end) for end in (near, far)))
        came = {number: await _outcome(task) for number, task in answers.items()}
        lost = link.is_over
    for side, end in ((True, far), (False, near)):
        got = [message.body for message in end.got if message.verb != "last"]
        assert got == said[side][: len(got)]
        assert lost or got == said[side]
    for number, answer in came.items():
        assert answer == Answer(number, (b"x" * number,)) or (lost and answer is None)


def _is_last(end: End) -> bool:
    return bool(end.got) and end.got[-1].verb == "last"


async def _disturb(what: str, relay: Relay) -> None:
    match what:
        case "pass":
            await asyncio.sleep(0)
        case "sleep":
            await asyncio.sleep(0.002)
        case "break":
            relay.break_off()
        case "cut":
            relay.cut()
        case "heal":
            relay.heal()


async def _outcome(asked: "asyncio.Task[Answer]") -> Answer | None:
    try:
        return await asked
    except HostLost:
        return None


async def test_a_cut_that_is_short_is_waited_out_and_a_long_one_ends_the_stream(monkeypatch):
    monkeypatch.setattr(link_module, "PING_SECONDS", 0.05)
    near, far = End(), End()
    async with linked(near, far) as (link, relay):
        relay.cut()
        asked = asyncio.create_task(link.ask(Message("ask", body=1)))
        await asyncio.sleep(3 * link_module.PING_SECONDS)
        relay.heal()
        assert (await asked).body == 1

        relay.cut()
        lost = asyncio.create_task(link.ask(Message("ask", body=2)))
        with pytest.raises(HostLost):
            await lost
        await until(lambda: far.over == 1)
        with pytest.raises(HostLost):
            await link.send(Message("send"), 0)


async def test_the_end_of_a_stream_is_told_to_all_who_ask_and_stops_what_is_done_for_them():
    async def never(link: Link, message: Message) -> Answer | None:
        await asyncio.Event().wait()

    near, far = End(), End(then=never)
    async with linked(near, far) as (link, relay):
        asked = [asyncio.create_task(link.ask(Message(f"ask {n}"))) for n in range(100)]
        await until(lambda: len(far.got) == 100)
        relay.break_off()
        assert {type(e) for e in await asyncio.gather(*asked, return_exceptions=True)} == {HostLost}
        await until(lambda: len(far.cancelled) == 100)
        assert (near.over, far.over) == (1, 1)


async def test_who_is_cancelled_cancels_what_was_asked():
    async def never(link: Link, message: Message) -> Answer | None:
        await asyncio.Event().wait()

    near, far = End(), End(then=never)
    async with linked(near, far) as (link, _):
        asked = asyncio.create_task(link.ask(Message("one")))
        await until(lambda: len(far.got) == 1)
        asked.cancel()
        await until(lambda: far.cancelled == ["one"])
        far.then = None
        assert (await link.ask(Message("two", body=2))).body == 2


class Own(Exception):
    """An error of the user's."""


@pytest.mark.parametrize("error", [Own("no"), Fenced(run="r"), HostLost("gone")], ids=repr)
async def test_an_error_comes_back_as_it_was_raised_to_who_asked(error):
    async def fail(link: Link, message: Message) -> Answer | None:
        raise error

    near, far = End(), End(then=fail)
    async with linked(near, far) as (link, _):
        with pytest.raises(type(error), match=str(error)):
            await link.ask(Message("ask"))


async def test_an_error_to_what_was_only_sent_is_raised_at_the_next_message_of_its_work():
    async def fail(link: Link, message: Message) -> Answer | None:
        if message.verb == "fail":
            raise Own(message.path)
        return Answer(message.path)

    near, far = End(), End(then=fail)
    async with linked(near, far) as (link, _):
        one, other = link.work("r", 1, "one"), link.work("r", 1, "other")
        await one.send("fail")
        assert (await other.ask("ask")).body == "other"
        for say in (one.ask("ask"), one.send("send")):
            with pytest.raises(Own, match="one"):
                await say
        with pytest.raises(Own, match="one"):
            one.close()
        other.close()
        assert [message.path for message in far.got] == ["one", "other"]


async def test_a_task_that_is_cancelled_there_by_somebody_else_is_lost_here():
    async def leave(link: Link, message: Message) -> Answer | None:
        raise asyncio.CancelledError

    near, far = End(), End(then=leave)
    async with linked(near, far) as (link, _):
        with pytest.raises(HostLost, match="its task was cancelled"):
            await link.ask(Message("ask"))


async def test_a_peer_that_reads_nothing_holds_up_who_sends_to_it_and_no_memory():
    near, far = End(), End()
    async with linked(near, far) as (link, relay):
        relay.cut()
        sent = 0

        async def many() -> None:
            nonlocal sent
            for _ in range(MANY):
                await link.send(Message("send", parts=(bytes(100_000),)), 0)
                sent += 1

        sending = asyncio.create_task(many())
        await asyncio.sleep(0.5)
        assert sent < MANY / 4  # of 200 MB the queue and the buffers of the system take some
        relay.heal()
        await sending
        await until(lambda: len(far.got) == MANY)


@pytest.mark.parametrize("as_text", [True, False])
async def test_what_a_journal_takes_of_one_value_goes_over_a_link(as_text):
    near, far = End(), End()
    async with linked(near, far) as (link, _):
        big = (
            Message("ask", body="x" * (64 << 20))
            if as_text
            else Message("ask", parts=(bytes(64 << 20),))
        )
        assert await link.ask(big) == Answer(big.body, big.parts)
        with pytest.raises(ValueError, match="a link takes 96"):
            await link.ask(Message("ask", parts=(bytes(97 << 20),)))
        assert await link.ask(Message("ask", body=[float("inf"), "\ud800"])) == Answer(
            [float("inf"), "\ud800"]
        )


@pytest.mark.parametrize(
    "bytes_sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0\0\0\2\0\0\0\0[]" * 9, b"\0\0\0\1\0\0\0\0{"],
)
async def test_garbage_at_the_door_is_let_go_and_others_come_in(bytes_sent):
    far = End()
    door = await Door.open(far.link)
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(door.address.host, door.address.port)
        writer.write(bytes_sent)
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                pass
        writer.close()
        link = await dial(door.address, End().link)
        assert (await link.ask(Message("ask", body=1))).body == 1
        link.close()
        await door.close()


async def test_garbage_from_who_was_let_in_ends_its_link_alone():
    near, far = End(), End()
    async with linked(near, far) as (link, relay):
        relay.garble(b"\xff" * 9)
        await until(lambda: link.is_over and far.over == 1)


@pytest.mark.parametrize("token", ["", "another", "ü"])
async def test_who_does_not_know_the_token_is_refused(token):
    far = End()
    door = await Door.open(far.link, token="the token")
    with pytest.raises(LinkRefused, match="its token is another one"):
        await dial(Address(door.address.host, door.address.port, token), End().link)
    await door.close()
    assert not far.links


async def test_who_has_another_token_is_not_believed_that_it_listens():
    door = await Door.open(End().link, token="one")
    with pytest.raises(LinkRefused):
        await dial(Address(door.address.host, door.address.port, "other"), End().link)
    await door.close()
    with pytest.raises(HostLost, match="nobody listens"):
        await dial(door.address, End().link)


async def test_who_stops_dialling_leaves_no_stream_open(monkeypatch):
    monkeypatch.setattr(door_module, "GREETING_SECONDS", 10 * SECONDS)
    came, ended = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader, writer):
        came.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    async with asyncio.timeout(SECONDS), await asyncio.start_server(say_nothing, "127.0.0.1") as at:
        port = at.sockets[0].getsockname()[1]
        dialling = asyncio.create_task(dial(Address("127.0.0.1", port, "t"), End().link))
        await came.wait()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await ended.wait()


async def test_who_stops_dialling_just_when_there_is_a_link_leaves_none():
    near, far = End(), End()
    door = await Door.open(far.link, token="t")

    def link() -> Link:
        asyncio.get_running_loop().call_soon(dialling.cancel)
        return near.link()

    async with asyncio.timeout(SECONDS):
        dialling = asyncio.create_task(dial(door.address, link))
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await until(lambda: near.over == 1 and far.over == 1)
    await door.close()


async def test_another_release_is_refused_by_name_of_its_version():
    door = await Door.open(End().link)
    reader, writer = await asyncio.open_connection(door.address.host, door.address.port)
    writer.write(frame_of([encode(Item("proof", 7, ("a", "b")))]))
    answer = await reader.read()
    assert b"links of version 7; here they are of 1" in answer
    writer.close()
    await door.close()


async def test_without_a_token_this_machine_alone_is_let_in():
    with pytest.raises(LinkRefused, match="wants a token"):
        await Door.open(End().link, host="0.0.0.0")


async def test_a_door_takes_the_first_port_that_is_free_of_those_it_may_use():
    first = await Door.open(End().link)
    taken = first.address.port
    second = await Door.open(End().link, ports=(taken, 0))
    assert second.address.port != taken
    with pytest.raises(LinkRefused, match="no port of"):
        await Door.open(End().link, ports=(taken,))
    await first.close()
    await second.close()


async def test_a_link_goes_through_tls(tmp_path, monkeypatch):
    monkeypatch.setattr(door_module, "GREETING_SECONDS", 1.0)
    served, trusted = certificates(tmp_path)
    door = await Door.open(End().link, token="t", tls=served)
    link = await dial(door.address, End().link, tls=trusted)
    assert (await link.ask(Message("ask", body=1))).body == 1
    link.close()
    with pytest.raises(LinkRefused, match="no greeting came"):
        await dial(door.address, End().link)
    await door.close()
