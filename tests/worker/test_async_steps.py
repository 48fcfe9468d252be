"""The knob that puts the host a step ahead of the device."""

from dataclasses import replace

import pytest

from common.config.config import Config
from common.config.sections.engine import EngineSection
from common.core.worker import Role
from common.engine.aside import AsideLauncher
from common.worker.engine import build_engine


@pytest.mark.parametrize(("asked", "is_ahead"), [("auto", False), ("off", False), ("on", True)])
def test_a_host_without_a_device_is_ahead_only_where_it_is_told_to_be(asked: str, is_ahead: bool) -> None:
    section = EngineSection(executor="sim", num_pages=8, async_steps=asked)
    engine = build_engine(replace(Config(), engine=section), lambda line: None, Role.DECODE)
    assert engine.is_ahead is is_ahead
    launcher = engine.batch._flights._launcher
    assert isinstance(launcher, AsideLauncher) is is_ahead
    # Layers that are told of on another thread would be gathered there.
    assert (engine.news is None) is is_ahead
    if isinstance(launcher, AsideLauncher):
        launcher.close()
