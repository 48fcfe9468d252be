"""A gRPC server that does nothing but write: `python -m tests.bench.router_load_bare --rate 20`.

The control of router_load: what its clients see of a server without a router in it, on the same core, with the same
event loop and collector. What the clients and the machine hold up, they hold up here as well. Every stream gets one
ready message per period, in step. The address is its first line; it ends with its input.
"""

import argparse
import asyncio
import sys
from functools import lru_cache

import grpc

from common.core.clock import SystemClock
from common.observe.event_loop import EventLoop
from common.observe.garbage import calm_collector
from protos.baton.v1 import generation_pb2

SERVICE = "baton.v1.GenerationService"
CLOCK = SystemClock()

END_S = 5.0
"""Chosen: so long may calls take to hear that their clients have left. What is cut before that, grpc prints."""


@lru_cache(maxsize=1024)
def message(index: int) -> bytes:
    """One token. Streams that began together share it: making it is none of what is measured."""
    delta = generation_pb2.ChoiceDelta(first_index=index, token_ids=[index % 400], text="word ", num_tokens=1)
    return generation_pb2.GenerateResponse(deltas=[delta]).SerializeToString()


class Bare:
    """Writer: the event loop. A stream whose last message was not taken yet misses a step."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def generate(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        index = 0
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn  # bounded: by the client
            await context.write(message(index))
            index += 1

    async def step(self, period_s: float) -> None:
        """A message for everybody who waits, each period, until cancelled."""
        due = CLOCK.monotonic()
        while True:
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():  # its client is gone
                    turn.set_result(None)
            due = max(due + period_s, CLOCK.monotonic())
            await asyncio.sleep(due - CLOCK.monotonic())


async def serve(rate: float) -> None:
    bare, server = Bare(), grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Generate": grpc.unary_stream_rpc_method_handler(bare.generate)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as group:
        steps = group.create_task(bare.step(1.0 / rate))
        await asyncio.to_thread(sys.stdin.read)  # bounded: by whoever started it
        steps.cancel()
    await server.stop(END_S)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=20.0)
    arguments = parser.parse_args()
    calm_collector()
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(serve(arguments.rate))


if __name__ == "__main__":
    main()
