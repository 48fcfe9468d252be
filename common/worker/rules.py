"""Constraints of arriving work, made ready before the work enters a batch: the step loop never waits for a compiler."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from common.core.errors import InternalError, StartupError
from common.core.ids import TokenId
from common.core.request import Work
from common.engine.rule import TokenRule
from common.observe.logging import get_log
from common.text.grammar.compiler import Compiler
from common.text.grammar.trouble import ConstraintTrouble
from common.text.grammar.vocabulary import model_vocabulary
from common.text.tokenizer import Tokenizer
from common.transfer.offload import Offload, ThreadOffload

_LOG = get_log("worker")


class Rules(Protocol):
    """Asked on the event loop, once per piece of work."""

    async def prepare(self, work: Work) -> TokenRule | None:
        """The state of the work's constraint after what it emitted already; None where there is no constraint.

        Raises InternalError for a constraint that cannot be compiled here, or that refuses what was emitted.
        """
        ...

    async def warm(self) -> None:
        """Read what every constraint needs, before the first one comes."""
        ...

    async def end(self) -> None:
        """Nothing more is compiled. By whoever made them, behind the last that asks."""
        ...


class NoRules:
    """For engines without a tokenizer."""

    async def prepare(self, work: Work) -> TokenRule | None:
        if work.constraint is not None:
            raise InternalError(message=f"{work.request} has a constraint, and this worker has no tokenizer")
        return None

    async def warm(self) -> None:
        return

    async def end(self) -> None:
        return


class GrammarRules:
    """Over the model's own tokenizer. Everything is compiled on one thread of its own, one after the other."""

    def __init__(
        self, folder: Path, *, vocab_size: int, eos_ids: Collection[TokenId], offload: Offload | None = None
    ) -> None:
        self._folder = folder
        self._vocab_size = vocab_size
        self._eos_ids = tuple(eos_ids)
        self._offload = offload or ThreadOffload()
        self._compiler: Compiler | None = None

    async def prepare(self, work: Work) -> TokenRule | None:
        if work.constraint is None:
            return None
        return await self._offload.run(lambda: self._rule(work))

    async def warm(self) -> None:
        try:
            await self._offload.run(self._ready)
        except StartupError as error:
            _LOG.warning("constraints_unavailable", error=error.message)

    async def end(self) -> None:
        await self._offload.end()

    def _rule(self, work: Work) -> TokenRule:
        """On the thread. Replaying takes microseconds per token."""
        assert work.constraint is not None
        try:
            rule = self._ready().rule(work.constraint)
        except (ConstraintTrouble, StartupError) as trouble:
            raise InternalError(message=f"{work.request}: the constraint does not compile: {trouble}") from trouble
        for index, token in enumerate(work.emitted):
            if not rule.accept(token):
                raise InternalError(message=f"{work.request}: the constraint refuses output token {index}")
        if not rule.is_over:
            rule.mask()
        return rule

    def _ready(self) -> Compiler:
        if self._compiler is None:
            tokenizer = Tokenizer.load(self._folder)
            vocabulary = model_vocabulary(tokenizer, vocab_size=self._vocab_size, eos_ids=self._eos_ids)
            self._compiler = Compiler(vocabulary)
        return self._compiler
