"""The bad-input row of constraints: INVALID_ARGUMENT, with the field, from a child that may be brought down by it."""

import asyncio
import json

import pytest

from common.core.clock import SystemClock
from common.core.constraint import Constraint, ConstraintKind
from common.core.errors import InvalidRequest
from common.text.grammar.inspector import MAX_VERDICTS, ChildInspector, InlineInspector, Verdicts
from common.text.grammar.trouble import ConstraintTrouble
from protos.baton.v1 import types_pb2
from services.router.asked import Asked, AskedSampling
from services.router.constraints import Constraints
from tests.router.door import IDS, Door, at_the_door

CLOCK = SystemClock()
DEEP = '{"a":' * 1000 + "1" + "}" * 1000

ROWS = [
    (types_pb2.Constraint(json_schema=json.dumps({"description": "x" * 1_000_000})), "json_schema"),
    (types_pb2.Constraint(json_schema=DEEP), "json_schema"),
    (types_pb2.Constraint(json_schema='{"$ref": "#"}'), "json_schema"),
    (types_pb2.Constraint(json_schema='{"enum": []}'), "json_schema"),
    (types_pb2.Constraint(regex="(a+)+$"), "regex"),
    (types_pb2.Constraint(regex="foo**"), "regex"),
    (types_pb2.Constraint(regex="(?=x)"), "regex"),
    (types_pb2.Constraint(regex=r"[^\s\S]"), "regex"),
    (types_pb2.Constraint(choice=types_pb2.Options()), "choice"),
    (types_pb2.Constraint(grammar="start: nobody"), "grammar"),
]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of many the child may not get its share of the processor in the time that a router has."""
    monkeypatch.setattr("common.text.grammar.inspector.START_S", 60.0)
    monkeypatch.setattr("common.text.grammar.inspector.WALL_S", 60.0)


@pytest.mark.parametrize(("constraint", "form"), ROWS)
def test_a_bad_constraint_is_refused_with_its_field(constraint: types_pb2.Constraint, form: str) -> None:
    async def act(door: Door) -> None:
        error = await door.error_of(token_ids=IDS, constraint=constraint)
        assert isinstance(error, InvalidRequest)
        assert [violation.field for violation in error.violations] == [f"constraint.{form}"]
        assert "too much time" not in str(error), "it was read, not given up"

    at_the_door(act)


async def refused(constraints: Constraints, asked: Asked) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        await constraints.check(asked)
    return [violation.field for violation in caught.value.violations]


async def test_limits_are_told_with_the_field() -> None:
    constraints = Constraints(InlineInspector(), max_bytes=10)
    regex = ConstraintKind.REGEX
    long = Asked(constraint=Constraint(kind=regex, source="a" * 11))
    assert await refused(constraints, long) == ["constraint.regex"]
    after = Asked(constraint=Constraint(kind=regex, source="a", after="x" * 65))
    assert await refused(constraints, after) == ["constraint.after"]
    both = Asked(constraint=Constraint(kind=regex, source="a"), sampling=AskedSampling(allowed_token_ids=(1,)))
    assert await refused(constraints, both) == ["sampling.allowed_token_ids"]
    assert await constraints.check(Asked()) is None


async def test_a_question_that_ends_the_child_is_refused_and_the_next_one_answered() -> None:
    """Goal: nothing a client sends holds the router up. Method: a regex that compiles for minutes, beside others."""
    inspector = ChildInspector()
    constraints = Constraints(inspector, max_bytes=64 << 10)
    bomb = Asked(constraint=Constraint(kind=ConstraintKind.REGEX, source=".*" * 10_000))
    fine = Asked(constraint=Constraint(kind=ConstraintKind.REGEX, source="a+"))
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            began = CLOCK.monotonic()
            await asyncio.sleep(0.005)
            worst = max(worst, CLOCK.monotonic() - began - 0.005)

    watcher = asyncio.create_task(watch())
    try:
        assert await constraints.check(fine) is fine.constraint
        assert await refused(constraints, bomb) == ["constraint.regex"]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(inspector, "_ask", None)  # it is known by now
            assert await refused(constraints, bomb) == ["constraint.regex"]
        other = Asked(constraint=Constraint(kind=ConstraintKind.CHOICE, source='["a"]'))
        assert await constraints.check(other) is other.constraint
    finally:
        watcher.cancel()
        await inspector.close()
    print(f"the event loop waited {worst * 1000:.0f} ms at most")


async def test_after_a_warm_start_no_question_waits_for_a_process_to_start() -> None:
    """Goal: B24, an answer within 300 ms, one bomb after the other. Method: the question after each bomb, against
    the time that starting a process takes here, so that a slow machine says the same as a quick one."""
    inspector = ChildInspector()
    try:
        began = CLOCK.monotonic()
        await inspector.warm()
        start_s = CLOCK.monotonic() - began
        taken = []
        for number in range(6):
            bomb = Constraint(kind=ConstraintKind.REGEX, source=".*" * (10_000 + number))
            with pytest.raises(ConstraintTrouble):
                await inspector.check(bomb)
            began = CLOCK.monotonic()
            await inspector.check(Constraint(kind=ConstraintKind.REGEX, source="a" * (number + 1)))
            taken.append(CLOCK.monotonic() - began)
    finally:
        await inspector.close()
    print(f"start {start_s * 1e3:.0f} ms, then", *(f"{each * 1e3:.0f}" for each in taken))
    assert sorted(taken)[len(taken) // 2] < start_s / 2


async def test_an_inspector_that_was_killed_is_started_again() -> None:
    inspector = ChildInspector()
    try:
        await inspector.warm()
        assert inspector._child is not None
        inspector._child.kill()
        await inspector._child.wait()
        await inspector.check(Constraint(kind=ConstraintKind.REGEX, source="a"))
    finally:
        await inspector.close()


def test_verdicts_are_bounded() -> None:
    verdicts = Verdicts()
    for number in range(MAX_VERDICTS + 1):
        verdicts.note(Constraint(kind=ConstraintKind.REGEX, source=str(number)), "")
    assert verdicts.find(Constraint(kind=ConstraintKind.REGEX, source="0")) is None
    assert verdicts.find(Constraint(kind=ConstraintKind.REGEX, source="1")) == ""
