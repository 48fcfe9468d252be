"""What a client of a resumable request was given, so that it can be given again. Bounded: the oldest is forgotten."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from common.core.errors import NotFound, Reason
from services.router.delta import Delta, joined
from services.router.validate import refusal


class Replay:
    """Deltas as they were handed out, in order. Writer: the request's stream.

    `on_growth` hears how many bytes were added, or freed (negative).
    """

    def __init__(self, num_choices: int, *, max_bytes: int, on_growth: Callable[[int], None] | None = None) -> None:
        self._max_bytes = max_bytes
        self._on_growth = on_growth
        self._kept: deque[Delta] = deque()
        self._first = [0] * num_choices
        self._next = [0] * num_choices
        self.num_bytes = 0

    def keep(self, parts: Iterable[Delta]) -> None:
        """One more piece of what went out."""
        before = self.num_bytes
        for part in parts:
            self._kept.append(part)
            self._next[part.choice] = part.end + (part.finish is not None)
            self.num_bytes += part.cost_bytes
        while self.num_bytes > self._max_bytes:
            self._drop_oldest()
        self._tell(self.num_bytes - before)

    def clear(self) -> None:
        """Nothing can be given again of what went out so far."""
        before = self.num_bytes
        while self._kept:
            self._drop_oldest()
        self._tell(self.num_bytes - before)

    def since(self, seen: Sequence[int]) -> tuple[Delta, ...]:
        """What went out from the given index of each choice on; 0 for choices beyond the list. At most one per choice.

        Raises InvalidRequest for an index that was not reached, NotFound for one that is not kept any more.
        """
        if len(seen) > len(self._next):
            raise refusal("from_index", f"{len(seen)} choices, the request has {len(self._next)}")
        wanted = [*seen, *([0] * (len(self._next) - len(seen)))]
        for choice, index in enumerate(wanted):
            if index > self._next[choice]:
                raise refusal(f"from_index[{choice}]", f"{index} is ahead: {self._next[choice]} would be next")
            if index < self._first[choice]:
                raise NotFound(
                    message=f"choice {choice} can be resumed from index {self._first[choice]}, not from {index}",
                    reason=Reason.RESUME_EXPIRED,
                )
        parts: dict[int, list[Delta]] = {}
        for part in self._kept:
            if wanted[part.choice] < part.end + (part.finish is not None):
                parts.setdefault(part.choice, []).append(part)
        return tuple(joined(own).since(wanted[choice]) for choice, own in sorted(parts.items()))

    def _drop_oldest(self) -> None:
        oldest = self._kept.popleft()
        self.num_bytes -= oldest.cost_bytes
        self._first[oldest.choice] = oldest.end + (oldest.finish is not None)

    def _tell(self, growth: int) -> None:
        if growth and self._on_growth is not None:
            self._on_growth(growth)
