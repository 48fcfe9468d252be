"""Decode and prefill, each on an engine of its own, going on by themselves: what disturbs each other on one GPU."""

import time
from dataclasses import dataclass

import torch

from common.engine.device_graph import recorder
from tests.gpu.engine import Engine, Span
from tests.gpu.random_decoder import EIGHT_B, TINY, random_decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything; `quiet_s` undisturbed, `loud_s` with prompts."""

    streams: int
    context: int
    prompt: int
    chunk: int
    quiet_s: float
    loud_s: float


FULL = Scale(streams=32, context=1024, prompt=8192, chunk=512, quiet_s=2.0, loud_s=8.0)
SMALL = Scale(streams=2, context=20, prompt=24, chunk=8, quiet_s=0.2, loud_s=0.5)


class Streams:
    """Contexts that decode on and on, beginning anew at the end of their pages; each step's seconds."""

    def __init__(self, scale: Scale, device: torch.device, *, num_more: int = 0) -> None:
        self._scale, self._device = scale, device
        spec, dtype = (EIGHT_B, torch.bfloat16) if device.type == "cuda" else (TINY, torch.float32)
        longest = max(2 * scale.context, scale.prompt)
        self.engine = Engine(
            random_decoder(spec, dtype=dtype, device=device, max_context=longest),
            num_contexts=scale.streams + num_more,
            max_context=longest,
            record=recorder(device) if device.type == "cuda" and not num_more else None,
        )
        self._places = list(range(scale.streams))
        for place in self._places:
            self.engine.extend([Span(context=place, first=0, end=scale.context)])

    def step(self, spans: tuple[Span, ...] = ()) -> float:
        began = time.perf_counter()
        if self.engine.lengths[0] >= 2 * self._scale.context:
            for place in self._places:
                self.engine.lengths[place] = self._scale.context
        if spans:
            self.engine.extend(spans, self._places)
        else:
            self.engine.decode(self._places)
        finish_stream(self._device)
        return time.perf_counter() - began

    def steps_until(self, end: float) -> list[float]:
        times = []
        while time.perf_counter() < end:
            times.append(self.step())
        return times


class Prompts:
    """Prompts one after the other on an engine of their own."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self._scale, self._device = scale, device
        spec, dtype = (EIGHT_B, torch.bfloat16) if device.type == "cuda" else (TINY, torch.float32)
        decoder = random_decoder(spec, dtype=dtype, device=device, max_context=scale.prompt)
        self._engine = Engine(decoder, num_contexts=1, max_context=scale.prompt, record=None)
        self.read()
        self.alone_s = self.read()

    def read(self) -> float:
        began = time.perf_counter()
        self._engine.extend([Span(context=0, first=0, end=self._scale.prompt)])
        finish_stream(self._device)
        return time.perf_counter() - began

    def arrive_until(self, end: float) -> list[float]:
        """Open loop at half of what was read alone; seconds from each arrival to its first token."""
        waits, due = [], time.perf_counter()
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            self.read()
            waits.append(time.perf_counter() - due)
            due += 2 * self.alone_s
        return waits


def finish_stream(device: torch.device) -> None:
    """What this thread launched is done; others' work may go on."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
