"""Seconds as a sum of non-negative coefficients times features, learnt online. Pure arithmetic on small matrices.

Weighted least squares over an exponentially fading memory, kept as normal equations:

    minimise  sum_k w_k ((y_k - x_k c) / s_k)^2  +  PRIOR_TRUST * spread^2 * sum_i ((c_i - g h_i) / (g h_i))^2,   c >= 0

s_k = the prediction: errors count relative to it, so that short steps matter as much as long ones. Relative to the
duration itself slow steps would count less than quick ones, and on a machine that is shared every sum of predictions
would come out too low. w_k are Huber weights (Huber 1964) against the scale of recent errors. g is how much slower than
the prior this machine is, and h the prior with its hopes: what the data leave open keeps these proportions.
Each kind of observation fades on its own, so thousands of decode steps do not erase what an extend costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PRIOR_TRUST = 0.1
"""Chosen: coefficients three times the scaled prior are ordinary (1 / 3^2). In units of the errors' variance, so that
the prior decides what the data leave open and nothing else."""

MEMORY = 512
"""Chosen: observations of a kind; seconds to minutes of steps, so that a slower neighbour or clock is followed."""

FIRST_MEMORY = 8
"""Chosen: memory grows with a third of what was seen, because early errors were weighed by an early, wrong model."""

WARM_UP = 3
"""Chosen: first observations of a kind that are not learnt from: allocation, page faults and compilation."""

HUBER = 4.0
"""Errors beyond this many recent mean errors weigh less. Chosen: the usual 1.7 finds the middle of durations, and what
queues are made of is their mean; what a neighbour's step adds to one in three is no outlier, a pause of 50 steps is."""

MAX_MISS = 3.0
"""Chosen: durations beyond so many predictions count relative to themselves: what is predicted may be far too low."""

MIN_SPREAD = 0.02
"""Chosen: timers and schedulers jitter by 2 %; errors below that are never outliers."""

CALM_SPREAD = 0.25
"""Chosen: while predictions keep missing by more, the memory is shorter: the machine has changed."""

SPEED_RATE = 0.05
ERROR_RATE = 0.03
"""Chosen: running means over the last twenty steps, and over the last thirty."""

SOLVE_EVERY = 16
"""Chosen: steps between two solutions; a few coefficients move little in so many."""


@dataclass(slots=True)
class _Kind:
    """Normal equations of one kind of observation."""

    gram: list[list[float]]
    moment: list[float]
    num_seen: int = 0
    error: float = 0.0


@dataclass(slots=True)
class LinearFit:
    """Writer: whoever observes. `prior`: coefficients before any observation; positive. `hopes`: what is assumed in the
    place of some of them, by index, where observations do not tell them apart."""

    prior: Sequence[float]
    hopes: Mapping[int, float] = field(default_factory=dict)
    num_kinds: int = 1
    num_learnt: int = 0
    _kinds: list[_Kind] = field(init=False)
    _solution: tuple[float, ...] = field(init=False)
    _log_speed: float = 0.0
    _spread: float = 0.25
    _num_unsolved: int = 0

    def __post_init__(self) -> None:
        assert all(value > 0.0 for value in self.prior), self.prior
        size = len(self.prior)
        self._kinds = [
            _Kind(gram=[[0.0] * size for _ in range(size)], moment=[0.0] * size) for _ in range(self.num_kinds)
        ]
        self._solution = tuple(self.prior)

    def observe(self, features: Sequence[float], seconds: float, *, kind: int = 0) -> None:
        """One duration. What is no duration (zero, negative, infinite) is not believed."""
        if not 0.0 < seconds < math.inf:
            return
        held = self._kinds[kind]
        held.num_seen += 1
        if held.num_seen <= WARM_UP:
            return
        self._note_speed(features, seconds)
        predicted = _dot(self.coefficients(), features)
        self._note_error(held, predicted, seconds)
        self._accumulate(held, features, seconds, self._weight(predicted, seconds))
        self.num_learnt += 1
        self._num_unsolved += 1

    def coefficients(self) -> tuple[float, ...]:
        """The solution as of a few observations ago at most."""
        if self._num_unsolved and (self._num_unsolved >= SOLVE_EVERY or self.num_learnt < 4 * SOLVE_EVERY):
            self._solution = self._solve()
            self._num_unsolved = 0
        return self._solution

    def error(self, kind: int = 0) -> float:
        """Recent mean of |predicted - seconds| / seconds, each predicted before it was learnt from."""
        return self._kinds[kind].error

    def _note_speed(self, features: Sequence[float], seconds: float) -> None:
        """A robust running mean of how the durations compare with the prior: single steps move it little."""
        ratio = math.log(seconds / max(_dot(self.prior, features), 1e-12))
        if self.num_learnt < SOLVE_EVERY:
            self._log_speed += (ratio - self._log_speed) / (self.num_learnt + 1)
        else:
            self._log_speed += SPEED_RATE * max(-1.0, min(1.0, ratio - self._log_speed))

    def _note_error(self, held: _Kind, predicted: float, seconds: float) -> None:
        miss = min(abs(predicted - seconds) / seconds, 10.0)
        rate = max(ERROR_RATE, 1.0 / (held.num_seen - WARM_UP))
        held.error += rate * (miss - held.error)

    def _weight(self, predicted: float, seconds: float) -> float:
        scale = max(predicted, seconds / MAX_MISS)
        miss = abs(seconds - predicted) / scale
        weight = 1.0 if miss <= HUBER * self._spread else HUBER * self._spread / miss
        self._spread += ERROR_RATE * (min(miss, 3.0 * self._spread) - self._spread)
        self._spread = max(self._spread, MIN_SPREAD)
        return float(weight / scale**2)

    def _accumulate(self, held: _Kind, features: Sequence[float], seconds: float, weight: float) -> None:
        memory = MEMORY * min(1.0, CALM_SPREAD / self._spread)
        keep = 1.0 - 1.0 / min(memory, FIRST_MEMORY + held.num_seen / 3)
        for row, (vector, left) in enumerate(zip(held.gram, features, strict=True)):
            scaled = weight * left
            for column, right in enumerate(features):
                vector[column] = vector[column] * keep + scaled * right
            held.moment[row] = held.moment[row] * keep + scaled * seconds

    def _solve(self) -> tuple[float, ...]:
        """In units of what is assumed, where every coefficient is around one. A negative one is held at zero."""
        size, speed = len(self.prior), math.exp(self._log_speed)
        units = [self.hopes.get(index, value) * speed for index, value in enumerate(self.prior)]
        gram = [
            [sum(kind.gram[row][column] for kind in self._kinds) * units[row] * units[column] for column in range(size)]
            for row in range(size)
        ]
        moment = [sum(kind.moment[row] for kind in self._kinds) * units[row] for row in range(size)]
        trust = PRIOR_TRUST * self._spread**2
        for row in range(size):
            gram[row][row] += trust
            moment[row] += trust
        free = list(range(size))
        solution = [0.0] * size
        while free:
            values = _solve_linear([[gram[i][j] for j in free] for i in free], [moment[i] for i in free])
            worst = min(range(len(free)), key=values.__getitem__)
            if values[worst] >= 0.0:
                for index, value in zip(free, values, strict=True):
                    solution[index] = value * units[index]
                break
            del free[worst]
        return tuple(solution)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _solve_linear(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gaussian elimination; the matrix is symmetric and, thanks to the prior, positive definite."""
    size = len(right)
    for pivot in range(size):
        for row in range(pivot + 1, size):
            factor = matrix[row][pivot] / matrix[pivot][pivot]
            for column in range(pivot, size):
                matrix[row][column] -= factor * matrix[pivot][column]
            right[row] -= factor * right[pivot]
    for pivot in reversed(range(size)):
        rest = sum(matrix[pivot][column] * right[column] for column in range(pivot + 1, size))
        right[pivot] = (right[pivot] - rest) / matrix[pivot][pivot]
    return right
