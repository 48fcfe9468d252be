"""Goal: the first step of an answer whose pages landed is planned as a short one, and no other. Method: a prefill core
and a decode core by hand, and what the budget was asked."""

import pytest

from services.decode.budget import ExtendBudget
from tests.engine.relay import Relay
from tests.engine.rig import work


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """`has_newcomer` of every plan."""
    told: list[bool] = []
    tokens = ExtendBudget.tokens

    def listen(budget: ExtendBudget, num_decoding: int, *, has_newcomer: bool = False) -> int:
        told.append(has_newcomer)
        return tokens(budget, num_decoding, has_newcomer=has_newcomer)

    monkeypatch.setattr(ExtendBudget, "tokens", listen)
    return told


def test_the_step_after_pages_have_landed_is_short_and_the_next_one_is_not(asked: list[bool]) -> None:
    relay = Relay()
    for name in ("one", "two"):
        relay.send(work(name, list(range(20)), max_tokens=4))
        relay.run()
        assert len(relay.output(name)) == 4
    first, second = (at for at, has_newcomer in enumerate(asked) if has_newcomer)
    assert second - first >= 3, "three tokens of the first were drawn meanwhile"


def test_who_is_read_where_it_is_written_is_no_newcomer(asked: list[bool]) -> None:
    relay = Relay()
    relay.decode.core.start_local(work("local", list(range(20)), max_tokens=4))
    relay.run()
    assert asked
    assert not any(asked)
