"""The engine in this process, without router, wire or workers: what a cluster's figures are held against."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from common.config.config import Config
from common.core.clock import Clock
from common.core.errors import InternalError
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TokenId
from common.core.request import Choice, TokenSampling, Work
from common.core.worker import Role
from common.engine.loop import StepThread, Turns
from common.worker.engine import build_engine
from services.local.bench.engine_core import EngineCore, Written
from services.local.bench.target import Piece

FOREVER = float("inf")
ROUTER = RouterRef(RouterId("bench"), Epoch(1))
SCOPE = bytes(32)


class EngineTarget:
    """A step thread over a real batch. Pieces carry the time at which their step ended, not when they were read."""

    name = "engine"

    def __init__(self, core: EngineCore, *, vocab_size: int, max_context: int) -> None:
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._core = core
        self._loop = asyncio.get_running_loop()
        self._queues: dict[RequestId, asyncio.Queue[Written | Exception]] = {}
        self._num_requests = 0
        self.turns = Turns(core, deliver=self._deliver)

    async def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        self._num_requests += 1
        request = RequestId(f"bench-{self._num_requests}")
        queue = self._queues[request] = asyncio.Queue(maxsize=max_tokens + 1)
        work = Work(
            request=request,
            attempt=1,
            prompt=tuple(TokenId(token) for token in prompt),
            choices=(Choice(index=0, seed=1),),
            sampling=TokenSampling(temperature=0.0, max_tokens=max_tokens, ignore_eos=True),
            deadline=FOREVER,
            cache_scope=SCOPE,
            router=ROUTER,
        )
        try:
            await self.turns.call(partial(self._core.start, work))
            while True:
                written = await queue.get()  # bounded: the step loop writes or fails; the workload's caller cancels
                if isinstance(written, Exception):
                    raise InternalError(message=f"the engine failed: {written}") from written
                yield Piece(at=written.at, num_tokens=1)
                if written.is_last:
                    return
        finally:
            del self._queues[request]
            self.turns.post(partial(self._core.cancel, request))

    def fail(self, error: Exception) -> None:
        """From the step thread: whoever waits is told."""
        self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        for queue in self._queues.values():
            queue.put_nowait(error)

    def _deliver(self, events: tuple[Written, ...]) -> None:
        """On the step thread."""
        self._loop.call_soon_threadsafe(self._take, events)

    def _take(self, events: tuple[Written, ...]) -> None:
        for written in events:
            queue = self._queues.get(written.request)
            if queue is not None:
                queue.put_nowait(written)


@asynccontextmanager
async def engine_target(config: Config, clock: Clock) -> AsyncIterator[EngineTarget]:
    """Loaded and stepping inside the block. Raises StartupError with the model's fault."""
    engine = await asyncio.to_thread(build_engine, config, lambda _line: None, Role.DECODE)
    core = EngineCore(batch=engine.batch, cache=engine.cache, chunk_tokens=config.engine.chunk_tokens, clock=clock)
    target = EngineTarget(core, vocab_size=engine.executor.vocab_size, max_context=engine.executor.max_context)
    thread = StepThread(target.turns, on_failure=target.fail, name="bench-steps")
    thread.start()
    try:
        yield target
    finally:
        thread.stop()
