"""The driver of one run: it appends events, carries out what follows, and brings about an end."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from dataclasses import replace
from typing import Any, assert_never, cast

from crew.budget import Amount
from crew.call.record import Performer
from crew.clock import wall_clock
from crew.errors import BudgetExceeded, Diverged, Fenced, StoreError
from crew.event import (
    CallCancelled,
    CallCompleted,
    CallFailed,
    CallUnknown,
    RunCompleted,
    RunDriven,
    RunEndedByCancel,
    RunEndedInFailure,
    RunEvent,
    RunTaken,
)
from crew.failure import failure_of
from crew.graph import Workflow
from crew.graph.engine import unfinished
from crew.graph.state import CancelStep, Command, Fail, Finish, RunStep, WaitForQuorum
from crew.journal import Letter, RunRow, RunStatus
from crew.journal.writer import OpenRun
from crew.message import Json
from crew.run.calls import RunCalls
from crew.run.course import Course
from crew.run.dispatch import Dispatch
from crew.run.driving import Driving
from crew.run.ending import End, parked_by
from crew.run.quorums import Quorums
from crew.run.reins import Reins
from crew.run.rest import Rest
from crew.run.schedule import Schedule
from crew.run.sharing import SharedAccounts
from crew.run.steps import Steps
from crew.run.surroundings import Surroundings

_RECORDED_AT_THE_END = (CallCompleted, CallFailed, CallUnknown, CallCancelled, RunDriven)
"""What became of that which was begun before the end was known."""


class Driver:
    """Drives one run in this process, from where its journal ends to the end of the run.

    Everything happens on one event loop, so that its state needs no lock. `rests` is called when
    the run begins to wait for the world outside.
    """

    def __init__(
        self,
        around: Surroundings,
        workflow: Workflow,
        row: RunRow,
        *,
        rests: Callable[["Driver"], None] = lambda driver: None,
    ) -> None:
        self.row = row
        self.run_id = row.id
        self.open = OpenRun(row.id, row.number, row.epoch, 0, 0, row=row)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reins = self._reins = Reins(self)
        self.calls = RunCalls(around, row, self.open, append=reins.append, changed=reins.changed)
        self.calls.goes_on = row.base is not None
        self.course = Course(workflow, self.open, self.calls, around.writer)
        self.open.lost, self.open.snapshot = self._lose, self.course.snapshot
        dispatch = Dispatch(self.calls, functools.partial(_standing_in, workflow))
        self.steps = Steps(
            self.course, dispatch, append=reins.append, stop=reins.stop, changed=reins.changed
        )
        self._schedule = Schedule(self.course, self.steps, reins.spawn)
        rest = self.rest = Rest(
            row,
            self.course,
            self._schedule,
            self.steps,
            begins=reins.rests,
            stuck=reins.stuck,
            spawn=reins.spawn,
        )
        self._quorums = Quorums(self.course, append=reins.append)
        self._driving = Driving(self.calls, lambda: rest.status == "waiting")
        self.calls.waits.driven_changed = self._driving.update
        self._around = around
        self._rests = rests
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending: asyncio.Task[Any] | None = None
        self._clean = Variables()
        self._clock: asyncio.TimerHandle | None = None
        self.divergence: Diverged | None = None

    @property
    def end(self) -> End | None:
        """Why the run is not driven here any more, or is about not to be."""
        return self.calls.end

    @property
    def is_parked(self) -> bool:
        return self.end is End.PARKED

    @property
    def is_waiting(self) -> bool:
        """Whether nothing goes on here until somebody answers or a time comes."""
        return self.rest.status == "waiting"

    def rests(self) -> None:
        """Say that the run begins to wait."""
        self._rests(self)

    def let_go(self) -> None:
        """Leave what it was made of to itself: nothing happens in the run here any more."""
        self._reins.let_go()
        self.calls.waits.let_go()
        self.open.let_go()

    def record_take(self, taken: RunTaken) -> None:
        """Append that a worker took the run over, before it goes on."""
        self.rest.due = None
        self.calls.goes_on = True
        self.append(taken, "running")

    def go(self) -> None:
        """Start carrying out what the folded state has unfinished."""
        if self.calls.accounts.is_shared and self.calls.lookup.rules.live:
            self.calls.share()
        self._carry_out(unfinished(self.course.state))
        until = self.calls.time_is_up_at()
        if until is not None and self.calls.lookup.rules.live:
            self._clock = asyncio.get_running_loop().call_later(
                max(0.0, until - wall_clock()), self._time_is_up, context=self._clean
            )

    def _time_is_up(self) -> None:
        """Fail the run: the seconds of its budget are over."""
        over = BudgetExceeded(run=self.run_id, needed=1, left=0, unit="seconds")
        failed = RunEndedInFailure(failure_of(over, ""), self.calls.accounts.total())
        self._end_with(End.TIMED_OUT, failed, "failed")

    def stuck(self, error: Diverged) -> None:
        """Nothing can go on any more; a replay comes to the end of its run's time like that."""
        past = self.calls.past
        if past is not None and past.is_out_of_time:
            self._time_is_up()
        else:
            self.stop(error)

    def deliver(self, letter: Letter, body: Json) -> bool | None:
        """Turn a letter into an event.

        Returns:
            True if it was; None if it was refused; False if it stays in the inbox: the question it
            answers is not asked yet, or it is a cancel, which goes with the run's end.
        """
        if self.end is not None:
            return False
        if letter.kind == "cancel":
            ended = RunEndedByCancel(self.calls.accounts.total())
            self._end_with(End.CANCELLED, ended, "cancelled")
            return False
        return self.calls.answered(letter.name, body["value"], body.get("by"))

    async def abandon(self) -> None:
        """Stop without an end: the run stays as its journal has it, for somebody else."""
        self._end_with(End.LEFT, RunDriven() if self._driving.counts else None)
        if self._ending is None:
            await self.steps.stop()  # it was lost, and nothing is left to record
        else:
            await asyncio.wait({self._ending})

    def stop(self, error: Exception) -> None:
        """Stop driving, for an error that is of the run and not of a call in it."""
        if not isinstance(error, Diverged):
            self._lose(error)
        elif self.end is None:
            self.divergence = error
            self._end_with(End.PARKED, parked_by(error), "waiting")

    def _end_with(
        self, end: End, event: RunEvent | None = None, status: RunStatus | None = None
    ) -> None:
        """End what goes on here, for the first cause that comes up, and record that."""
        if self.end is not None:
            return
        self.calls.end = end
        if self._clock is not None:
            self._clock.cancel()
        self._ending = self.spawn(functools.partial(self._finish, event, status))

    async def _finish(self, event: RunEvent | None, status: RunStatus | None) -> None:
        await self.steps.stop()
        try:
            if self.calls.shared is not None and not self.ended.done():
                event = await self._settled(event, self.calls.shared)
            if event is not None and not self.ended.done():
                self.append(event, status)
                await self._around.writer.durable(self.open)
        except (Fenced, StoreError) as error:
            self._lose(error)
        if not self.ended.done():
            self.ended.set_result(None)

    async def _settled(self, event: RunEvent | None, shared: SharedAccounts) -> RunEvent | None:
        """Settle the accounts that the run shares; return its end with what it has cost."""
        if isinstance(event, (RunCompleted, RunEndedInFailure, RunEndedByCancel)):
            drawn = (await shared.close()).total
            usage = self.calls.accounts.total(Amount(drawn.tokens, drawn.money))
            return replace(event, usage=usage)
        await shared.rest()
        return event

    def _lose(self, error: Exception) -> None:
        """The run is not ours any more, or its store failed: stop, and write nothing."""
        if self.end is None or not self.ended.done():
            self.calls.end = End.FENCED if isinstance(error, Fenced) else End.STORE_FAILED
        if self.calls.shared is not None:
            self.calls.shared.lose()
        self.steps.close()
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # whoever waits gets it; nobody must

    def append(self, event: RunEvent, status: RunStatus | None = None) -> None:
        """Append an event, bring the run on by it, and carry out what follows."""
        if self.calls.end is not None and _is_refused(event, status):
            return
        if status is not None:
            self.rest.status = status
        try:
            offset = self._around.writer.append(self.open, event, status)
            commands = self.course.bring_on(event, offset)
            self._around.writer.catch_up(self.open)
        except (Fenced, StoreError) as error:
            self._lose(error)
            raise
        if commands:
            self._carry_out(commands)
        if self.calls.past is not None:
            self._quorums.see(event)

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if self.calls.end is not None:
                return
            match command:
                case RunStep():
                    self._schedule.ready.append(command)
                case CancelStep(path=path):
                    self.steps.let_go(path)
                case WaitForQuorum():
                    self.spawn(functools.partial(self._quorums.wait, command))
                case Finish(output=output):
                    reused = dict(self.calls.accounts.reused) or None
                    kept = self.calls.thread_changes.of_run or None
                    usage = self.calls.accounts.total()
                    done = RunCompleted(output, usage, reused, thread=kept)
                    self._end_with(End.COMPLETED, done, "completed")
                case Fail(error=error):
                    failed = RunEndedInFailure(error, self.calls.accounts.total())
                    self._end_with(End.FAILED, failed, "failed")
                case _:
                    assert_never(command)
        self._schedule.pump()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        """Start a task of the driver's own, which is kept until its work is done."""
        # A clean context: what a step set, its scope above all, is not for the driver's own tasks.
        task = asyncio.get_running_loop().create_task(self._carry(work), context=self._clean.copy())
        self._tasks.add(task)
        return task

    async def _carry(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Not by a callback of the task: a commit waits for what is ready behind it.
        try:
            await work()
        except Exception as error:  # noqa: BLE001  whatever it is, the run cannot go on here
            self._lose(error)
        except (KeyboardInterrupt, SystemExit) as error:
            self._lose(StoreError(message=str(error)))
            raise
        finally:
            self._tasks.discard(cast("asyncio.Task[Any]", asyncio.current_task()))

    def update(self) -> None:
        """Look whether the run waits by now."""
        self.rest.update()


def _is_refused(event: RunEvent, status: RunStatus | None) -> bool:
    """Return whether an event comes too late, once the run's end is known."""
    return status is None and not isinstance(event, _RECORDED_AT_THE_END)


def _standing_in(workflow: Workflow, agent: Performer) -> Performer:
    """Return what a fork was given in place of an agent, or the agent."""
    overrides = workflow.overrides
    if not overrides:
        return agent
    if (named := overrides.get(agent.name)) is not None:
        return cast("Performer", named)
    every = overrides.get("*")
    return agent if every is None else cast("Performer", every(agent))
