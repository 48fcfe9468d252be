"""Rounds of workloads over contenders, in alternating order, so that figures of one round are of the same minutes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import BatonError
from services.local.bench.bounds import Bounds
from services.local.bench.contender import Contender
from services.local.bench.prompts import Prompts
from services.local.bench.sample import Sample
from services.local.bench.trial import Trial
from services.local.bench.workload import Kit, Workload, warm_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Everything that a run of a benchmark consists of. `say`: a line for the person who waits."""

    contenders: Sequence[Contender]
    workloads: Sequence[Workload]
    rounds: int
    max_attempts: int
    clock: Clock
    entropy: Entropy
    heard: Callable[[Sample], None]
    say: Callable[[str], None]
    bounds: Bounds | None = None

    async def run(self) -> None:
        """A contender that cannot start, or that ends, is told of and left out; the others go on."""
        for number in range(self.rounds):
            order = self.contenders if number % 2 == 0 else tuple(reversed(self.contenders))
            for contender in order:
                self.say(f"round {number + 1} of {self.rounds}: {contender.name}")
                try:
                    await self._visit(contender, number)
                except* BatonError as failures:
                    self.say(f"{contender.name} is left out: {failures.exceptions[0]}")

    async def _visit(self, contender: Contender, number: int) -> None:
        async with contender.awake() as awake:
            prompts = Prompts(self.entropy, awake.target.vocab_size)
            kit = Kit(clock=self.clock, prompts=prompts, bounds=self.bounds)
            if awake.needs_warm_up:
                await warm_up(awake.target, kit)
            trial = Trial(
                target=awake.target,
                pids=awake.pids,
                kit=kit,
                clock=self.clock,
                heard=self.heard,
                max_attempts=self.max_attempts,
            )
            for workload in self.workloads:
                await trial.run(workload, number=number)
