"""transformers in this process, as a target: what arrives together with equal lengths is generated as one batch.

Of equal prompts and answers that is the most that any batching could do. Optional: the command says so where it is
missing. Its continuous batching wants a GPU; `python -m tests.gpu.e2e` runs that one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.config import Config
from common.core.clock import Clock
from common.core.errors import InternalError, StartupError
from services.local.bench.contender import Awake
from services.local.bench.target import Piece
from services.local.bench.ways import usable_cores

GATHER_S = 0.05
"""Chosen: prompts of one moment are there by then; it counts as time to the first token, of seconds here."""

Generate = Callable[[list[tuple[int, ...]], int], list[float]]
"""Prompts of one length and tokens to write to each: when each token of all was there, on the clock of the target."""


class BatchTarget:
    """`generate` blocks, and runs on a thread, one batch at a time. Whoever comes first of a batch leads it."""

    name = "transformers"

    def __init__(self, generate: Generate, *, vocab_size: int, max_context: int) -> None:
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._generate = generate
        self._turn = asyncio.Lock()
        self._open: dict[tuple[int, int], _Batch] = {}

    async def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        """Pieces carry the time at which their token was there, not when they were read: at the end of the batch."""
        shape = len(prompt), max_tokens
        batch = self._open.get(shape)
        if batch is None:
            batch = self._open[shape] = _Batch(prompts=[prompt], times=asyncio.get_running_loop().create_future())
            await self._lead(batch, shape)
        else:
            batch.prompts.append(prompt)
        for at in await asyncio.shield(batch.times):  # bounded: the leader sets it, whatever happens to it
            yield Piece(at=at, num_tokens=1)

    async def _lead(self, batch: "_Batch", shape: tuple[int, int]) -> None:
        try:
            async with self._turn:
                await asyncio.sleep(GATHER_S)
                self._open.pop(shape)
                batch.times.set_result(await asyncio.to_thread(self._generate, batch.prompts, shape[1]))
        finally:
            if self._open.get(shape) is batch:
                self._open.pop(shape)
            if not batch.times.done():
                batch.times.set_exception(InternalError(message=f"{self.name} lost a batch of {len(batch.prompts)}"))
                batch.times.exception()  # whoever followed raises it, and maybe nobody did


@dataclass(slots=True)
class _Batch:
    """Writer: the target, until its leader closes it."""

    prompts: list[tuple[int, ...]]
    times: "asyncio.Future[list[float]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersContender:
    """The model folder that Baton serves, in the same type, on as many threads."""

    config: Config
    clock: Clock
    name: str = BatchTarget.name

    @property
    def num_threads(self) -> int:
        return self.config.engine.threads or len(usable_cores())

    def describe(self) -> str:
        return f"in this process, {self.num_threads} threads, one batch of what arrives together"

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Awake]:
        model = await asyncio.to_thread(self._load)
        shape = model.config
        target = BatchTarget(
            lambda prompts, count: generated(model, prompts, count, self.clock),
            vocab_size=shape.vocab_size,
            max_context=shape.max_position_embeddings,
        )
        yield Awake(target=target, pids=tuple)

    def _load(self) -> Any:
        """Raises StartupError where transformers is missing, or does not know the model."""
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ModuleNotFoundError as missing:
            raise StartupError(message=f"{missing.name} is not installed: run without --transformers") from missing
        torch.set_num_threads(self.num_threads)
        own, folder = self.config.model, Path(self.config.model.path)
        device = "cuda" if torch.cuda.is_available() and self.config.engine.device != "cpu" else "cpu"
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=own.dtype, local_files_only=True)
        except (OSError, ValueError) as error:
            raise StartupError(message=f"transformers cannot load {folder}: {error}") from error
        return model.to(device).eval()


def generated(model: Any, prompts: list[tuple[int, ...]], count: int, clock: Clock) -> list[float]:
    """Greedy, past the end of sequence, `count` tokens to each prompt; when each step ended."""
    import torch
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    times: list[float] = []

    class Watch(StoppingCriteria):
        def __call__(self, input_ids: Any, *_: object, **__: object) -> Any:
            input_ids[0, -1].item()  # the token is there, on a GPU too
            times.append(clock.monotonic())
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    config: Any = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers'
        max_new_tokens=count, min_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    prompts_ST = torch.tensor(prompts, device=model.device)
    with torch.inference_mode():
        model.generate(
            prompts_ST,
            attention_mask=torch.ones_like(prompts_ST),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([Watch()]),
        )
    return times
