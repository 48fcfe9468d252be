"""What a machine's report says of its pace, from what it has counted until now."""

from dataclasses import dataclass, field

from common.engine.rate import Rate


@dataclass(slots=True)
class Count:
    """A total that grows, as a rate. Writer: the scaled play."""

    rate: Rate = field(default_factory=Rate)
    counted: int = 0
    counted_at: float = 0.0

    def up_to(self, total: int, now: float) -> float:
        """Per second, as of now. What came since the last look counts as of the middle between: a worker counts as it
        reads; counted at the look, a rate that is looked at every two seconds is a fifth too high."""
        self.rate.add(total - self.counted, (self.counted_at + now) / 2)
        self.counted, self.counted_at = total, now
        return self.rate.per_second(now)


@dataclass(slots=True)
class Pulse:
    """One machine: prompt tokens read, answer tokens drawn."""

    read: Count = field(default_factory=Count)
    drawn: Count = field(default_factory=Count)
