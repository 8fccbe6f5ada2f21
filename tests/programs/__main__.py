"""Count points of random programs on all stores, in several processes: `make programs`.

python -m tests.programs --points 50000 --workers 2
"""

import argparse
import itertools
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from crew.testing.generator.table import Table
from tests.postgres import Server
from tests.programs.places import count_on_all_stores

PROGRAMS_AT_ONCE = 10


def main() -> int:
    options = _options()
    began, table = time.monotonic(), Table()
    server = Server()
    server.start()
    try:
        _count_all(table, options, server)
        seconds = time.monotonic() - began
        print(f"{table}\n  {seconds:.0f} s, {options.workers} processes", flush=True)
    finally:
        server.stop()
    return 1 if table.wrong else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first program's seed")
    return parser.parse_args()


def _count_all(table: Table, options: argparse.Namespace, server: Server) -> None:
    seeds = (
        range(first, first + PROGRAMS_AT_ONCE)
        for first in itertools.count(options.first, PROGRAMS_AT_ONCE)
    )
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:

        def next_part() -> Future[Table]:
            return pool.submit(count_on_all_stores, next(seeds), server.new_database())

        under_way = {next_part() for _ in range(options.workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for part in done:
                table.merge(part.result())
                if table.points < options.points:
                    under_way.add(next_part())


if __name__ == "__main__":
    raise SystemExit(main())
