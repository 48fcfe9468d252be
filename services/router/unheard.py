"""Prompts on their way to a worker: what it told of itself last cannot hold them."""

from dataclasses import dataclass, field
from typing import Protocol


class Sent(Protocol):
    """Work placed on a worker. `tokens`: of its prompt, not read yet; `is_landed`: the worker took it."""

    tokens: int
    is_landed: bool


@dataclass(eq=False, slots=True)
class Unheard:
    """Writer: the standing. Few at a time: a worker reports with every step of which it tells anything."""

    _sent: list[Sent] = field(default_factory=list)

    @property
    def num_prompts(self) -> int:
        return len(self._sent)

    @property
    def num_tokens(self) -> int:
        return sum(each.tokens for each in self._sent)

    def note_sent(self, sent: Sent) -> None:
        """Without tokens to read it makes no prompt longer to wait for."""
        if sent.tokens:
            self._sent.append(sent)

    def note_over(self, sent: Sent) -> None:
        """It is read, or given up."""
        self._sent = [each for each in self._sent if each is not sent]

    def note_report(self) -> None:
        """What the worker had taken before is in it."""
        self._sent = [each for each in self._sent if not each.is_landed]
