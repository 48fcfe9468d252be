"""The calibration file: read back as written, refused with the field's name; and overheads found again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.core.cost.model import DEFAULT
from common.core.errors import InvalidRequest
from services.router.policy import PolicySettings
from services.simulator.calibration import Calibration, mean_cost, read_calibration, write_calibration
from services.simulator.fidelity import compare
from services.simulator.lived import Lived, replay, stages_of
from services.simulator.overheads import fit_overheads

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
    turn_s=0.0005,
    prefill_turn_s=0.003,
    land_s=0.02,
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


def test_a_file_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_calibration(tmp_path / "none.json")
    assert caught.value.message == f"{tmp_path}/none.json: file: cannot be read: No such file or directory"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="file: is no JSON: "):
        read_calibration(path)


def test_several_looks_at_a_worker_count_by_the_steps_they_know() -> None:
    quick, slow = replace(DEFAULT, step_s=0.01, num_steps=100), replace(DEFAULT, step_s=0.04, num_steps=300)
    unknown = replace(DEFAULT, num_steps=0)
    assert mean_cost([quick, slow]).step_s == pytest.approx(0.0325)
    assert mean_cost([quick, slow]).num_steps == 300
    assert mean_cost([unknown]) == replace(DEFAULT, num_steps=0)


def lived_as_simulated(asks: list[tuple[float, int]], measured: Calibration) -> list[Lived]:
    """Requests of a cluster that is the simulator itself: (arrival, prompt tokens) each."""
    lived = [
        Lived(arrived_s=at, prompt_tokens=prompt, output_tokens=20, is_remote=False, ttft_s=0.0, itl_s=None, stages={})
        for at, prompt in asks
    ]
    return [
        replace(one, is_remote=other.is_remote, ttft_s=other.ttft_s or 0.0, itl_s=other.itl_s, stages=stages_of(other))
        for one, other in zip(lived, replay(lived, measured, SETTINGS), strict=True)
    ]


def test_overheads_are_found_again_and_then_nothing_is_left() -> None:
    """What a cluster adds to its steps is recovered from its requests alone, although some wait for each other."""
    prompts = (40, 300, 90, 700)
    alone = [one for prompt in prompts for one in lived_as_simulated([(0.0, prompt)], MEASURED)]
    lived = lived_as_simulated([(index * 0.04, prompts[index % 4]) for index in range(60)], MEASURED)
    assert {one.is_remote for one in lived} == {True, False}
    assert max(one.stages["place"] or 0.0 for one in lived) > 4 * MEASURED.hop_s, "nobody waited for a step"
    found = fit_overheads(
        alone, lived, replace(MEASURED, hop_s=0.0, turn_s=0.0, prefill_turn_s=0.0, land_s=0.0), SETTINGS
    )
    assert found.hop_s == pytest.approx(MEASURED.hop_s, rel=0.01)
    assert found.turn_s == pytest.approx(MEASURED.turn_s, rel=0.15)
    assert found.prefill_turn_s == pytest.approx(MEASURED.prefill_turn_s, rel=0.15)
    assert found.land_s == pytest.approx(MEASURED.land_s, rel=0.25)  # pages wait for the end of a step
    errors = {error.stage: error.error for error in compare(lived, replay(lived, found, SETTINGS))}
    assert errors["ttft"] < 0.05
    assert errors["itl"] < 0.05
    assert errors["same route"] == 0.0


def test_requests_can_be_played_on_the_routes_that_they_took() -> None:
    """Whatever the policy would say: a prompt of either length, read on either worker."""
    lived = [
        Lived(
            arrived_s=float(index),
            prompt_tokens=(40, 700)[index % 2],
            output_tokens=4,
            is_remote=index < 2,
            ttft_s=1.0,
            itl_s=None,
            stages={},
        )
        for index in range(4)
    ]
    told = [served.is_remote for served in replay(lived, MEASURED, PolicySettings(), as_routed=True)]
    assert told == [True, True, False, False]
    decided = [served.is_remote for served in replay(lived, MEASURED, SETTINGS)]
    assert decided == [False, True, False, True]


def test_the_simulated_router_is_told_how_long_an_answer_may_be() -> None:
    """As the live one was: worst cases of 1,024 tokens would not fit side by side, those of 20 do."""
    narrow = replace(MEASURED, num_pages=60)
    lived = lived_as_simulated([(0.0, 40), (0.001, 40), (0.002, 40)], narrow)
    assert all(one.ttft_s < 0.5 for one in lived)
