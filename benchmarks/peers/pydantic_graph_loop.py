"""pydantic_graph: a loop of one node by the builder, with nothing stored.

Less durable than ours: it has no store, so it is what such a step costs without durability.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

from pydantic_graph import BaseNode, End, GraphBuilder, GraphRunContext

steps = int(sys.argv[2])


@dataclass
class Count(BaseNode[None, None, int]):
    n: int

    async def run(self, ctx: GraphRunContext[None, None]) -> "Count | End[int]":
        return End(self.n) if self.n + 1 >= steps else Count(self.n + 1)


def built():
    builder = GraphBuilder(name="loop", input_type=Count, output_type=int)
    builder.add(builder.node(Count), builder.edge_from(builder.start_node).to(Count))
    return builder.build()


async def main() -> None:
    graph = built()
    await graph.run(inputs=Count(0))
    began, cpu = time.perf_counter(), time.process_time()
    await graph.run(inputs=Count(0))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"wall": 1e6 * wall / steps, "cpu": 1e6 * cpu / steps}))


asyncio.run(main())
