"""What stands around the choices of every answer: id, kind, time, model, usage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.gateway.answer import Answer, Tally
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

    def whole(self, choices: Sequence[dict[str, Any]], answer: Answer) -> dict[str, Any]:
        whole = {**self._head(self.kind), "choices": list(choices), "usage": answer.tally.usage()}
        if self.wants_waterfall:
            whole["waterfall"] = answer.waterfall
        return whole

    def chunk(self, choices: Sequence[dict[str, Any]], tally: Tally) -> dict[str, Any]:
        chunk = {**self._head(self.chunk_kind), "choices": list(choices)}
        if self.options and self.options.continuous_usage_stats:
            chunk["usage"] = tally.usage()
        elif self.wants_usage:
            chunk["usage"] = None
        return chunk

    def last(self, answer: Answer) -> dict[str, Any]:
        last = {**self._head(self.chunk_kind), "choices": [], "usage": answer.tally.usage()}
        if self.wants_waterfall:
            last["waterfall"] = answer.waterfall
        return last

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
