"""Goal: what a running answer costs a step besides its computing stays small.

Method: Python's own count of calls, which a busy machine does not change: steps of many answers less those of few.
"""

import sys
from types import FrameType

from common.core.clock import ManualClock
from tests.engine.relay import make_decode
from tests.engine.rig import work

STEPS = 16
OF_THE_SIMULATION = ("engine/sim.py", "kv/sim_storage.py", "kv/layout.py")


def calls_of(num_answers: int) -> int:
    """Python functions that so many answers call in some steps, the simulated computing left out."""
    clock = ManualClock()
    core = make_decode(clock, num_pages=256).core
    for number in range(num_answers):
        core.start_local(work(f"answer-{number}", [number + 1, 2, 3], max_tokens=100))
    while core.look().load.waiting_requests or core.look().load.step_batch != num_answers:
        core.advance()
        clock.advance(0.001)
    num_calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal num_calls
        num_calls += event == "call" and not frame.f_code.co_filename.endswith(OF_THE_SIMULATION)

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for _ in range(STEPS):
            core.advance()
            core.take_events()
            core.look()
    finally:
        sys.setprofile(before)
    assert core.look().load.running_sequences == num_answers
    return num_calls


def test_a_running_answer_costs_a_step_some_seventy_calls() -> None:
    """It was 131: references that hashed in Python, lists made anew, facts asked for several times."""
    each = (calls_of(24) - calls_of(8)) / 16 / STEPS
    assert 20 < each < 80
