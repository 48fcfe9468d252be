"""Goal: a worker is told of under an address that its peers can dial, or does not start; it ends what it began."""

import gc
from types import SimpleNamespace

import pytest

from common.config.config import Config
from common.config.sections.cluster import ListenSection
from common.core.errors import StartupError, Unavailable
from common.core.worker import Role
from common.transfer.offload import InlineOffload
from common.worker import boot
from common.worker.boot import reachable_address
from common.worker.rules import GrammarRules


class SpyOffload(InlineOffload):
    def __init__(self):
        self.is_ended = False

    async def end(self):
        self.is_ended = True


@pytest.mark.parametrize(
    ("host", "advertise", "address"),
    [
        ("10.1.2.3", "", "10.1.2.3:7460"),
        ("fd00::2", "", "[fd00::2]:7460"),
        ("*", "10.1.2.3", "10.1.2.3:7460"),
        ("*", "fd00::2", "[fd00::2]:7460"),
        ("127.0.0.1", "10.1.2.3:8", "10.1.2.3:8"),
    ],
)
def test_peers_are_told_where_to_dial(host, advertise, address):
    assert reachable_address(ListenSection(host=host, advertise=advertise), 7460) == address


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::"])
def test_a_worker_that_listens_everywhere_must_say_where_it_is(host):
    with pytest.raises(StartupError, match=r"listen\.advertise"):
        reachable_address(ListenSection(host=host), 7460)


async def test_what_an_engine_is_made_of_is_never_looked_through_for_garbage(monkeypatch, tmp_path):
    """Torch and the weights come after the process has begun: a look through them takes 70 ms, amid the streams."""
    looked_through = []

    def build(*_):
        rules = GrammarRules(tmp_path, vocab_size=4, eos_ids=(), offload=InlineOffload())
        return SimpleNamespace(rules=rules, torch=[[number] for number in range(50_000)])

    async def serve(*_, **named):
        looked_through.append(len(gc.get_objects()))
        assert len(named["engine"].torch) == 50_000

    monkeypatch.setattr(boot, "_outside", lambda *_: None)
    monkeypatch.setattr(boot, "configure_logging", lambda **_: None)
    monkeypatch.setattr(boot, "build_engine", build)
    monkeypatch.setattr(boot, "serve_worker", serve)
    monkeypatch.setattr(boot.Farewell, "listen", lambda self: self)
    await boot.run_worker(Config(), "decode-0", SimpleNamespace(role=Role.DECODE))
    assert looked_through[0] < 50_000


async def test_a_worker_that_leaves_ends_what_it_began(monkeypatch, tmp_path):
    """Its own offload and its compiler's thread, however serving ended; neither before it has."""
    ended, rules, own = [], SpyOffload(), SpyOffload()

    async def serve(*_arguments, **_named):
        ended.extend([rules.is_ended, own.is_ended])
        raise Unavailable(message="the step loop is over")

    grammar = GrammarRules(tmp_path, vocab_size=4, eos_ids=(), offload=rules)
    monkeypatch.setattr(boot, "ThreadOffload", lambda: own)
    monkeypatch.setattr(boot, "_outside", lambda *_: None)
    monkeypatch.setattr(boot, "configure_logging", lambda **_: None)
    monkeypatch.setattr(boot, "build_engine", lambda *_: SimpleNamespace(rules=grammar))
    monkeypatch.setattr(boot, "serve_worker", serve)
    monkeypatch.setattr(boot.Farewell, "listen", lambda self: self)
    with pytest.raises(Unavailable):
        await boot.run_worker(Config(), "decode-0", SimpleNamespace(role=Role.DECODE))
    assert ended == [False, False]
    assert rules.is_ended
    assert own.is_ended
