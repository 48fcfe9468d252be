"""A step between its launch and its collection, and what a batch remembers of it.

One step in the life of a batch that does not wait (stepper.py decides whether it does):

    plan k+1  ->  launch k+1  ->  collect k  ->  proceed with k's tokens  ->  commands, landing  ->  plan k+2 ...
                  |<------------------------ k+1 in flight ----------------------------------------------->|

and of a sequence with a row in each of them:

    row in k    LAUNCHED --collect--> its token is known: appended, told
    row in k+1  LAUNCHED behind it: its one token is what k draws, which only the device knows by then
                  --collect--> as above
                  --k's token ended the sequence, or k failed it--> ORPHAN --collect--> dropped, nothing told

What keeps this exact:

- A row is made behind one in flight only where the token drawn there changes nothing about the row but itself. Where it
  does (a constraint, a bad word, a penalty, several choices that part) the step in flight is collected first, and the
  next one is as if nothing were ever ahead. A sequence whose draw in flight is its last in any case gets no row.
- Whoever leaves the batch while a step is in flight (ended, cancelled, failed) leaves at once, but its pages stay out
  of the pool until all steps that were launched by then are collected: no transfer lands in a page, and no other row is
  given it, that such a step may still write or read.
- A sequence is known by the object, not by its name: an attempt that arrives anew under the name of one with a row in
  flight is another sequence, and is told nothing of that row.
- Full pages are lent to others only when the step that filled them was collected, and its row did not fail.
- Preemption happens with nothing in flight: a plan that preempts is made anew after collecting.
- A hand-over collects first: what leaves are the tokens that were drawn, with their pages complete.
"""

from dataclasses import dataclass
from typing import Protocol

from common.core.step import Step, StepResult
from common.engine.plan import BatchPlan
from common.engine.sequence import Sequence


class Flight(Protocol):
    """A step that was launched."""

    def collect(self) -> StepResult:
        """Wait until the step is done; called once. Raises as Executor.run does."""
        ...


class Launcher(Protocol):
    """What starts steps, in order, and returns before they are done. Called from the step loop's thread.

    At most one step is in flight when the next one is launched, and `follows` of a row means that step.
    """

    def launch(self, step: Step) -> Flight:
        """Raises as Executor.run does, here or when the flight is collected."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Launched:
    """One plan on its way. `sequences` go with the step's rows; `flight` is None where there was no row to launch."""

    plan: BatchPlan
    step: Step
    sequences: tuple[Sequence, ...]
    deferred: tuple[Sequence, ...]
    broken: tuple[Sequence, ...]
    """Those whose row could not even be made."""
    flight: Flight | None
