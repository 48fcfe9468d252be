"""Pictures of results, where the library is installed, and a word where it is not."""

import sys

import pytest

from common.core.errors import StartupError
from services.local.bench.plot import DRAWN, TITLES, draw
from services.local.bench.results import Summary
from services.local.bench.tables import SHOWN

SUMMARIES = tuple(
    Summary(contender=name, workload="decode_8", figure="tok_s", count=3, num_clean=3, median=5.0, low=4.0, high=6.0)
    for name in ("engine", "relay")
)


def test_a_picture_is_a_png(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "decode.png"
    draw(SUMMARIES, file, subtitle="a machine")
    assert file.read_bytes().startswith(b"\x89PNG")


def test_without_the_library_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(StartupError, match=r"baton\[plots\]"):
        draw(SUMMARIES, tmp_path / "decode.png", subtitle="a machine")


def test_what_is_drawn_is_what_workloads_measure():
    assert DRAWN.keys() == SHOWN.keys()
    assert all(figure in TITLES and figure in SHOWN[family] for family in DRAWN for figure in DRAWN[family])
