"""What stands around the choices of every answer: id, kind, time, model, usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.answer import Answer
from services.gateway.schema.sampling import StreamOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One per exchange."""

    id: str
    kind: str
    chunk_kind: str
    created: int
    model: str
    options: StreamOptions | None = None
    wants_waterfall: bool = False

    @property
    def wants_last(self) -> bool:
        """Whether a chunk without choices follows the last choice's end."""
        return self.wants_usage or self.wants_waterfall

    @property
    def wants_usage(self) -> bool:
        """In a chunk of its own at the end: only where asked for, because some clients fall over it."""
        return bool(self.options and self.options.include_usage)

    @property
    def wants_running_usage(self) -> bool:
        """In every chunk, as it is by then."""
        return bool(self.options and self.options.continuous_usage_stats)

    def whole(self, choices: Sequence[dict[str, Any]], answer: Answer) -> dict[str, Any]:
        whole = {**self.head(self.kind), "choices": list(choices), "usage": answer.tally.usage()}
        if self.wants_waterfall:
            whole["waterfall"] = answer.waterfall
        return whole

    def last(self, answer: Answer) -> dict[str, Any]:
        last = {**self.head(self.chunk_kind), "choices": [], "usage": answer.tally.usage()}
        if self.wants_waterfall:
            last["waterfall"] = answer.waterfall
        return last

    def head(self, kind: str) -> dict[str, Any]:
        """What every object begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
