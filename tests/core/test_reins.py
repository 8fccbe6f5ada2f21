"""What is left of a driver that was let go of reaches nobody any more."""

import asyncio
import functools

import pytest

from crew.errors import Diverged, Fenced
from crew.event import ProgressMade
from crew.run.reins import Reins


class Watched:
    """A driver that notes what is asked of it."""

    run_id = "r1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def append(self, event):
        self.asked.append("append")

    def spawn(self, work):
        self.asked.append("spawn")

    def stop(self, error):
        self.asked.append("stop")

    def stuck(self, error):
        self.asked.append("stuck")

    def update(self):
        self.asked.append("update")

    def rests(self):
        self.asked.append("rests")


def ask_all_but_append(reins: Reins) -> None:
    reins.spawn(functools.partial(asyncio.sleep, 0))
    reins.stop(ValueError())
    reins.stuck(Diverged(run="r1", path="a", recorded="b", asked="c"))
    reins.changed()
    reins.rests()


def test_a_driver_is_reached_until_it_is_let_go():
    driver = Watched()
    reins = Reins(driver)
    reins.append(ProgressMade("a", "x"))
    ask_all_but_append(reins)
    before = ["append", "spawn", "stop", "stuck", "update", "rests"]
    assert driver.asked == before
    reins.let_go()
    ask_all_but_append(reins)
    with pytest.raises(Fenced, match="r1"):
        reins.append(ProgressMade("a", "x"))
    assert driver.asked == before
