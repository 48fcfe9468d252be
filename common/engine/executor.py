"""What carries out a step: the torch executor with weights, or the honest simulated one."""

from typing import Protocol

from common.core.step import Step, StepResult
from common.kv.storage import PageStorage


class Executor(Protocol):
    """Owns the page bytes of one worker. Called from the step loop's thread only, one step at a time."""

    @property
    def storage(self) -> PageStorage:
        """Where the pages that a row names lie."""
        ...

    @property
    def vocab_size(self) -> int:
        """Token ids are 0 to vocab_size - 1."""
        ...

    @property
    def max_context(self) -> int:
        """Tokens a sequence may have, prompt and output together."""
        ...

    def run(self, step: Step) -> StepResult:
        """Copy pages, compute every row, write its KV, draw its samples.

        A row that cannot be computed (poison) is named in `failed` and does not disturb the others. Raises only when
        no row can be computed any more: the process must drain and exit.
        """
        ...
