"""Decode and prefill, each on an engine of its own, going on by themselves: what disturbs each other on one GPU."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from common.engine.decode_graphs import Record
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


FULL = Scale(streams=32, context=1024, prompt=8192, chunk=512, quiet_s=1.5, loud_s=6.0)
SMALL = Scale(streams=2, context=20, prompt=24, chunk=8, quiet_s=0.2, loud_s=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The same for every way: seconds between prompts, and how long a step may take at most to be a good one."""

    apart_s: float
    good_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """An open loop: prompts that were due, and seconds from due to its first token of each that was read in time."""

    num_due: int
    waits_s: Sequence[float]

    @property
    def keeps_up(self) -> bool:
        """The last one may be under way at the end, and its predecessor."""
        return len(self.waits_s) >= self.num_due - 2


class Streams:
    """Contexts that decode on and on, beginning anew at the end of their pages; each step's seconds.

    With `has_guest` there is one context more, for a prompt.
    """

    def __init__(
        self, scale: Scale, device: torch.device, *, record: Record | None = None, has_guest: bool = False
    ) -> None:
        self._scale, self._device = scale, device
        spec, dtype = (EIGHT_B, torch.bfloat16) if device.type == "cuda" else (TINY, torch.float32)
        longest = [2 * scale.context] * scale.streams + [scale.prompt] * has_guest
        self.engine = Engine(
            random_decoder(spec, dtype=dtype, device=device, max_context=max(longest)),
            max_lengths=longest,
            record=record,
            num_recorded=scale.streams,
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

    def steps_beside_chunks(self, end: float, apart_s: float) -> tuple[list[float], Arrivals]:
        """Steps, each with a chunk of the prompt whose turn it is, where one is due. Needs the guest's place."""
        scale, times, waits = self._scale, [], []
        began, num_due, done = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) < end:
            num_due = int((now - began) / apart_s) + 1
            if len(waits) == num_due:
                times.append(self.step())
                continue
            upto = min(done + scale.chunk, scale.prompt)
            times.append(self.step((Span(context=scale.streams, first=done, end=upto),)))
            done = upto % scale.prompt
            if done == 0:
                waits.append(time.perf_counter() - began - len(waits) * apart_s)
        return times, Arrivals(num_due=num_due, waits_s=waits)


class Prompts:
    """Prompts one after the other on an engine of their own."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self._scale, self._device = scale, device
        spec, dtype = (EIGHT_B, torch.bfloat16) if device.type == "cuda" else (TINY, torch.float32)
        decoder = random_decoder(spec, dtype=dtype, device=device, max_context=scale.prompt)
        self._engine = Engine(decoder, max_lengths=[scale.prompt])
        self.read()

    def read(self) -> float:
        began = time.perf_counter()
        self._engine.extend([Span(context=0, first=0, end=self._scale.prompt)])
        finish_stream(self._device)
        return time.perf_counter() - began

    def alone_s(self) -> float:
        """Of one prompt, nothing else running."""
        return median(self.read() for _ in range(3))

    def arrive_until(self, end: float, apart_s: float) -> Arrivals:
        """What was not begun at the end is not read; what ends later does not count."""
        waits: list[float] = []
        began = due = time.perf_counter()
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() >= end:
                break
            self.read()
            if time.perf_counter() < end:
                waits.append(time.perf_counter() - due)
            due += apart_s
        return Arrivals(num_due=int((end - began) / apart_s) + 1, waits_s=waits)


def finish_stream(device: torch.device) -> None:
    """What this thread launched is done; others' work may go on."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
