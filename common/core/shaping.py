"""What a request's options make of its logits: kept per sequence, so that a step pays for one token and not for all.

A function of sampling, prompt and output alone. Whoever takes a sequence over builds it again from the tokens.
"""

from array import array
from collections.abc import Iterable, Sequence

from common.core.ids import TokenId
from common.core.request import TokenSampling


class Shaping:
    """Allowed ids, biases, and which tokens were seen how often. Writer: the batch that holds the sequence.

    Arrays, so that an executor can read them without a loop. `seen[i]` stands `counts[i]` times in the output: 0 for a
    token of the prompt. Both are empty where no penalty asks for them.
    """

    __slots__ = ("_slots", "allowed", "biased", "biases", "counts", "sampling", "seen")

    def __init__(self, sampling: TokenSampling) -> None:
        self.sampling = sampling
        self.allowed = array("q", sampling.allowed_ids)
        self.biased = array("q", (token for token, _bias in sampling.logit_bias))
        self.biases = array("f", (bias for _token, bias in sampling.logit_bias))
        self.seen = array("q")
        self.counts = array("q")
        self._slots: dict[TokenId, int] = {}

    @classmethod
    def of(
        cls, sampling: TokenSampling, *, prompt: Sequence[TokenId], output: Iterable[TokenId] = ()
    ) -> "Shaping | None":
        """None where the logits stay as they are."""
        if not (sampling.allowed_ids or sampling.logit_bias or sampling.has_penalty):
            return None
        shaping = cls(sampling)
        if sampling.repetition_penalty != 1.0:
            shaping.seen = array("q", dict.fromkeys(prompt))
            shaping.counts = array("q", bytes(8 * len(shaping.seen)))
            shaping._slots = {TokenId(token): slot for slot, token in enumerate(shaping.seen)}
        for token in output:
            shaping.note(token)
        return shaping

    def note(self, token: TokenId) -> None:
        """One more output token."""
        if not self.sampling.has_penalty:
            return
        slot = self._slots.setdefault(token, len(self.seen))
        if slot == len(self.seen):
            self.seen.append(token)
            self.counts.append(0)
        self.counts[slot] += 1

    def copy(self) -> "Shaping":
        """For a choice that goes its own way from here."""
        twin = Shaping(self.sampling)
        twin.seen, twin.counts, twin._slots = self.seen[:], self.counts[:], dict(self._slots)
        return twin
