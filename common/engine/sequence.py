"""One context on one worker: its tokens, and the pages that hold their KV."""

from dataclasses import dataclass, field

from common.core.ids import PageRef, SequenceId, TokenId
from common.core.request import Choice, Work
from common.kv.hashing import PrefixChain


@dataclass(slots=True)
class Sequence:
    """Writer: the batch that holds it. Lengths are derived, so that nothing can drift.

    Until its first tokens are drawn a sequence stands for all choices of its work; then it forks into one each.
    """

    work: Work
    choices: tuple[Choice, ...]
    tokens: list[TokenId]
    arrived: float
    chain: PrefixChain
    num_computed: int = 0
    num_cached: int = 0
    pages: list[PageRef] = field(default_factory=list)
    num_registered: int = 0
    num_preemptions: int = 0

    @property
    def id(self) -> SequenceId:
        return SequenceId(self.work.request, self.choices[0].index)

    @property
    def num_pending(self) -> int:
        """Tokens without KV: the unread prompt, or the token drawn last."""
        return len(self.tokens) - self.num_computed

    @property
    def num_output(self) -> int:
        """Output tokens of the choice so far, earlier attempts included."""
        return len(self.tokens) - len(self.work.prompt)

    @property
    def has_drawn(self) -> bool:
        """Whether this attempt, on this worker or by hand-over, drew its first token."""
        return self.num_output > self.work.first_index

    @property
    def is_decoding(self) -> bool:
        return self.has_drawn and self.num_pending == 1
