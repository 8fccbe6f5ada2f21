"""One end of a duplex stream between two processes: messages in order, asked or only sent.

All that is queued in a pass of the event loop leaves in one frame; a long queue leaves at once.
What arrives is begun in the order in which it was sent. Nothing is sent twice: what was under way
when the stream ended is lost, and whoever asked is told so.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Protocol, cast

from crew.event import failure_data, failure_from
from crew.failure import error_of, failure_of
from crew.hosts import HostLost
from crew.hosts.link.frame import Decoder, Encoded, Garbage, Item, encode, frame_of
from crew.hosts.link.message import Answer, Message
from crew.message import Json

AT_ONCE = 256
"""So many queued items leave before the pass of the loop is over."""
FRAME_BYTES = 1 << 20
"""About so much goes into one frame, or one item that is bigger."""
QUEUE_BYTES = 4 << 20
"""With more in a queue that does not leave, whoever adds to it waits."""
PING_SECONDS = 1.0
SILENT_PINGS = 10
"""After so many without a byte from the other end the stream is taken to be cut."""

Handler = Callable[["Link", Message], Awaitable[Answer | None]]

logger = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """One end of a stream whose two ends have shown that they know each other.

    Args:
        handler: carries out what the other end asks or sends; what it raises is raised there.
        over: called once, when the stream has ended.
    """

    def __init__(self, handler: Handler, over: Callable[["Link"], None]) -> None:
        self.is_over = False
        self._handler = handler
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._numbers = itertools.count(1)
        self._queue = deque[Encoded]()
        self._queued = 0
        self._flushing: asyncio.Handle | None = None
        self._may_write = True
        self._room: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._works: dict[int, Work] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._silent = 0
        self._pinging: asyncio.TimerHandle | None = None

    def work(self, run: str, epoch: int, path: str) -> "Work":
        """Return a piece of work to send messages about, until it is closed."""
        number = next(self._numbers)
        work = self._works[number] = Work(self, number, run, epoch, path)
        return work

    async def ask(self, message: Message) -> Answer:
        """Return what the other end answers. Whoever is cancelled cancels it there.

        Raises:
            HostLost: the stream ended; it may have been carried out.
            ValueError: it is too big.
            Exception: what the handler there raised.
        """
        number = next(self._numbers)
        answer = self._asked[number] = self._loop.create_future()
        try:
            self._put(_item("ask", number, 0, message))
            if self._is_full:
                await self._until_room()
            return await answer
        except asyncio.CancelledError:
            answer.cancel()  # it may have waited for room
            if not self.is_over and answer.cancelled():
                self._queue_up(Item("cancel", number))
            raise
        finally:
            del self._asked[number]

    async def send(self, message: Message, work: int) -> None:
        """Send a message, and wait for nothing but room in a queue that is full.

        Raises:
            HostLost: the stream has ended.
            ValueError: it is too big.
        """
        self._put(_item("send", next(self._numbers), work, message))
        if self._is_full:
            await self._until_room()

    def close(self) -> None:
        """End the stream, once all that is queued has left."""
        if self._transport is not None and not self.is_over:
            self._flush()
            self._transport.close()

    def forget(self, work: int) -> None:
        """Note that nobody asks any more what came of messages about a piece of work."""
        self._works.pop(work, None)

    def _put(self, item: Item) -> None:
        if self.is_over:
            raise HostLost("the link to it has ended")
        self._queue_up(item)

    @property
    def _is_full(self) -> bool:
        return not self._may_write and self._queued > QUEUE_BYTES

    async def _until_room(self) -> None:
        while self._is_full:
            self._room = self._room or self._loop.create_future()
            await asyncio.shield(self._room)

    def _queue_up(self, item: Item) -> None:
        encoded = encode(item)
        self._queue.append(encoded)
        self._queued += encoded.size
        if len(self._queue) >= AT_ONCE:
            self._flush()
        elif self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Let leave what is queued, as far as the stream takes it."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        while self._queue and self._may_write and self._transport is not None:
            self._transport.write(frame_of(self._next_items()))
        if self._may_write and self._room is not None:
            self._room.set_result(None)
            self._room = None

    def _next_items(self) -> list[Encoded]:
        items, size = list[Encoded](), 0
        while self._queue and size < FRAME_BYTES:
            items.append(self._queue.popleft())
            size += items[-1].size
        self._queued -= size
        return items

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ping()
        self._flush()

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        try:
            for items in self._decoder.feed(data):
                for item in items:
                    self._take(item)
        except Garbage as garbage:
            logger.warning("link.garbage", extra={"reason": str(garbage)})
            self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait for the other end, and stop what is done here for it."""
        if self.is_over:
            return
        self.is_over = True
        for pending in (self._flushing, self._pinging):
            if pending is not None:
                pending.cancel()
        self._queue.clear()
        lost = HostLost(f"the link to it has ended ({exc})" if exc else "the link to it has ended")
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(lost)
                answer.exception()  # its asker may have been cancelled
        for task in list(self._serving.values()):
            task.cancel()
        if self._room is not None:
            self._room.set_result(None)
            self._room = None
        self._over(self)

    def _take(self, item: Item) -> None:
        match item:
            case Item("ask", number, (int(), *fields), parts):
                self._begin(number, self._answer(number, _message(fields, parts)))
            case Item("send", number, (int(work), *fields), parts):
                self._begin(number, self._carry_out(number, work, _message(fields, parts)))
            case Item("answer", number, (body,), parts):
                self._settle(number, Answer(body, parts))
            case Item("failed", number, (dict() as failure,)):
                self._settle(number, _error(failure))
            case Item("refused", work, (dict() as failure,)):
                if work in self._works:
                    self._works[work].refuse(_error(failure))
            case Item("cancel", number):
                if (task := self._serving.pop(number, None)) is not None:
                    task.cancel()
            case Item("ping"):
                pass
            case _:
                raise Garbage(f"an item of kind {item.kind!r} with {len(item.fields)} fields")

    def _begin(self, number: int, work: Coroutine[None, None, None]) -> None:
        self._serving[number] = self._loop.create_task(work)

    async def _answer(self, number: int, message: Message) -> None:
        try:
            answer = await self._handler(self, message) or Answer()
            self._put(Item("answer", number, (answer.body,), answer.parts))
            if self._is_full:
                await self._until_room()
        except asyncio.CancelledError:
            if self.is_over or number not in self._serving:
                raise
            await self._fail("failed", number, HostLost("its task was cancelled"), message)
        except Exception as error:  # noqa: BLE001  it is raised at the other end
            await self._fail("failed", number, error, message)
        finally:
            self._serving.pop(number, None)

    async def _carry_out(self, number: int, work: int, message: Message) -> None:
        try:
            await self._handler(self, message)
        except Exception as error:  # noqa: BLE001  it is raised at the other end
            await self._fail("refused", work, error, message)
        finally:
            self._serving.pop(number, None)

    async def _fail(self, kind: str, number: int, error: Exception, message: Message) -> None:
        if not self.is_over:
            self._put(Item(kind, number, (failure_data(failure_of(error, message.path)),)))
            if self._is_full:
                await self._until_room()

    def _settle(self, number: int, answer: Answer | BaseException) -> None:
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return  # its asker was cancelled
        if isinstance(answer, Answer):
            asked.set_result(answer)
        else:
            asked.set_exception(answer)

    def _ping(self) -> None:
        """Show that this end is there, and look whether the other one is.

        What is counted are looks, not seconds: while something holds the loop of this process,
        what the other end sends lies unread.
        """
        if self._silent >= SILENT_PINGS:
            logger.warning("link.cut", extra={"seconds": self._silent * PING_SECONDS})
            self._abort()
            return
        self._silent += 1
        self._queue_up(Item("ping", 0))
        self._pinging = self._loop.call_later(PING_SECONDS, self._ping)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Carrier(Protocol):
    """Carries messages to another process."""

    async def ask(self, message: Message) -> Answer: ...

    async def send(self, message: Message, work: int) -> None: ...

    def forget(self, work: int) -> None: ...


class Work:
    """A piece of work of a run, and what went wrong with messages about it that were only sent."""

    def __init__(self, link: Carrier, number: int, run: str, epoch: int, path: str) -> None:
        self._link = link
        self._number = number
        self._about = run, epoch, path
        self._error: BaseException | None = None

    async def ask(self, verb: str, body: Json = None, parts: tuple[bytes, ...] = ()) -> Answer:
        """Return what the other end answers; see `Link.ask`.

        Raises:
            Exception: also what came of a message that was sent before.
        """
        self._raise()
        return await self._link.ask(Message(verb, *self._about, body, parts))

    async def send(self, verb: str, body: Json = None, parts: tuple[bytes, ...] = ()) -> None:
        """Send a message; what goes wrong with it is raised when the next one is asked or sent."""
        self._raise()
        await self._link.send(Message(verb, *self._about, body, parts), self._number)

    def refuse(self, error: BaseException) -> None:
        """Raise an error at the next message; the first one stays."""
        self._error = self._error or error

    def close(self) -> None:
        """Nothing more is said about it.

        Raises:
            Exception: what came of a message that was sent before, if that is known.
        """
        self._link.forget(self._number)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _item(kind: str, number: int, work: int, message: Message) -> Item:
    about = (message.verb, message.run, message.epoch, message.path)
    return Item(kind, number, (work, *about, message.body), message.parts)


def _message(fields: Sequence[Json], parts: tuple[bytes, ...]) -> Message:
    match fields:
        case [str(verb), str(run), int(epoch), str(path), body]:
            return Message(verb, run, epoch, path, body, parts)
        case _:
            raise Garbage(f"a message of {len(fields)} fields")


def _error(failure: dict[str, Json]) -> BaseException:
    try:
        return error_of(failure_from(failure))
    except (TypeError, ValueError) as error:
        raise Garbage(f"a failure that is none: {error}") from error
