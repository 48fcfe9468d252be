"""How a machine's cores are dealt out."""

import pytest

from common.config.loader import load
from services.local.bench.ways import Way, lay_out


def test_relay_gives_each_role_half_of_the_cores():
    layout = lay_out(Way.RELAY, frozenset({0, 1, 2, 3}))
    assert layout.of_process == {
        "prefill-0": ("engine.threads=2", "engine.cpus=0,1"),
        "decode-0": ("engine.threads=2", "engine.cpus=2,3"),
    }


def test_colocated_gets_them_all():
    layout = lay_out(Way.COLOCATED, frozenset({4, 7}))
    assert layout.of_process == {"decode-0": ("engine.threads=2", "engine.cpus=4,7")}


def test_a_machine_with_one_core_shares_it():
    layout = lay_out(Way.REPLICAS, frozenset({0}))
    assert layout.of_process["decode-0"] == layout.of_process["decode-1"] == ("engine.threads=1", "engine.cpus=0")


@pytest.mark.parametrize("way", list(Way))
def test_every_setting_is_one_that_the_configuration_knows(way):
    layout = lay_out(way, frozenset({0, 1}))
    settings = [*layout.settings, *(each for own in layout.of_process.values() for each in own)]
    config = load(settings=settings)
    assert config.local.prefill + config.local.decode == len(layout.of_process)
