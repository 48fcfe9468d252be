"""Goal: when a router says that it is ready. Method: its process's words, with a fleet that never comes."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from common.model.forbidden import Forbidden
from common.observe.announce import read_announcement
from common.observe.health import Condition, Readiness
from common.text.grammar.inspector import InlineInspector
from services.router.app import _Process, tell_dropout, tell_overlooked


class NoFleet:
    """Nobody has ever been here."""

    async def wait_present(self) -> None:
        await asyncio.get_running_loop().create_future()

    def view(self) -> Any:
        return SimpleNamespace(eligible=lambda role: ())


def process(readiness: Readiness, *, may_hold: bool) -> _Process:
    node = SimpleNamespace(fleet=NoFleet(), me=SimpleNamespace(epoch=1))
    return _Process("router-0", cast(Any, node), readiness, "", InlineInspector(), may_hold=may_hold)


async def test_a_router_without_workers_is_ready_only_where_it_may_hold_requests() -> None:
    """A router that is not ready is asked nothing, and then nothing would bring a fleet back from none."""
    for may_hold in (True, False):
        readiness = Readiness((Condition.LISTENING, Condition.WORKERS_SEEN))
        made = process(readiness, may_hold=may_hold)
        made.listening("127.0.0.1:1")
        welcome = asyncio.create_task(made.welcome())
        if may_hold:
            await asyncio.wait_for(welcome, 5.0)
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(welcome, 0.1)
        assert readiness.is_ready is may_hold


def test_what_the_models_authors_ask_in_vain_is_told_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as lines:
        tell_overlooked("router-0", Forbidden())
        tell_overlooked("router-0", Forbidden(overlooked=("no_repeat_ngram_size", "num_beams")))
    (line,) = lines
    assert (line["event"], line["fields"]) == ("generation_config_overlooked", "no_repeat_ngram_size, num_beams")
    said = read_announcement(capsys.readouterr().out)
    assert said is not None
    assert "no_repeat_ngram_size, num_beams" in said.detail


@pytest.mark.parametrize("had", [False, True])
def test_a_tokenizer_that_asks_for_chance_is_told_at_the_start(had: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as lines:
        tell_dropout("router-0", cast(Any, SimpleNamespace(had_dropout=had)))
    assert [line["event"] for line in lines] == ["tokenizer_dropout_off"] * had
    assert ("tokenizer.json: model.dropout not followed" in capsys.readouterr().out) is had
