"""The calibration file: read back as written, refused with the field's name; and overheads found again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.core.cost.model import DEFAULT
from common.core.errors import InvalidRequest
from services.router.policy import PolicySettings
from services.simulator.calibration import Calibration, read_calibration, write_calibration
from services.simulator.fidelity import Lived, compare, fit_overheads, replay, stages_of

MEASURED = Calibration(
    decode=replace(DEFAULT, num_steps=100),
    prefill=replace(DEFAULT, num_steps=50, extend_token_s=1e-4),
    num_prefill=1,
    num_decode=1,
    page_size=16,
    num_pages=2000,
    page_bytes=4096,
    max_sequences=64,
    step_tokens=512,
    chunk_tokens=256,
    extend_tokens=64,
    itl_budget_s=0.05,
    hop_s=0.004,
    turn_s=0.0015,
)

SETTINGS = PolicySettings(local_prompt_tokens=128)


def test_a_calibration_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(MEASURED, path)
    assert read_calibration(path) == MEASURED
    shape = MEASURED.shape(decode=3)
    assert (shape.prefill, shape.decode, shape.reading_cost.extend_token_s) == (1, 3, 1e-4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": "other"}, "format"),
        ({"hop_s": -1}, "hop_s"),
        ({"hop_s": "fast"}, "hop_s"),
        ({"page_size": 1.5}, "page_size"),
        ({"decode": {"step_s": 1.0}}, "decode.extend_token_s"),
        ({"stranger": 1}, "stranger"),
    ],
)
def test_a_wrong_file_is_refused_with_the_fields_name(tmp_path: Path, change: dict[str, object], field: str) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(MEASURED, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidRequest) as caught:
        read_calibration(path)
    assert caught.value.violations[0].field == field


def test_overheads_are_found_again_and_then_nothing_is_left() -> None:
    """A cluster that is the simulator itself: what it adds to its steps is recovered from its requests alone."""
    asks = [(index * 0.7, (40, 300, 90, 700)[index % 4]) for index in range(40)]
    lived = [
        Lived(arrived_s=at, prompt_tokens=prompt, output_tokens=20, is_remote=False, ttft_s=0.0, itl_s=None, stages={})
        for at, prompt in asks
    ]
    served = replay(lived, MEASURED, SETTINGS)
    lived = [
        replace(one, is_remote=other.is_remote, ttft_s=other.ttft_s or 0.0, itl_s=other.itl_s, stages=stages_of(other))
        for one, other in zip(lived, served, strict=True)
    ]
    assert {one.is_remote for one in lived} == {True, False}
    found = fit_overheads(lived, replace(MEASURED, hop_s=0.0, turn_s=0.0), SETTINGS)
    assert found.turn_s == pytest.approx(MEASURED.turn_s, rel=0.05)
    assert found.hop_s == pytest.approx(MEASURED.hop_s, rel=0.1)
    errors = {error.stage: error.error for error in compare(lived, replay(lived, found, SETTINGS))}
    assert errors["ttft"] < 0.05
    assert errors["itl"] < 0.05
    assert errors["same route"] == 0.0
