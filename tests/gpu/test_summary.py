"""A run's table: every bar of the issue with a verdict, from files such as the parts write, whole or not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kernels.bench.run import CASES, FIRST
from tests.architecture.source import ROOT
from tests.gpu import bars
from tests.gpu.bar import Line, Verdict
from tests.gpu.bars import BARS
from tests.gpu.interference import WAYS
from tests.gpu.step_times import CASES as STEPS
from tests.gpu.step_times import with_shares
from tests.gpu.summary import collate, main, summarise, table

NOT_RUN = ROOT / "tests/bench/results/gpu-not-run.json"


def case(name: str, share: float, **rivals: object) -> dict[str, object]:
    timing = {"seconds": 1e-3 / share, "low": 0.0, "high": 0.0}
    return {"name": name, "error": 0.0, "bound_s": 1e-3, "timing": timing, "share": share, "rivals": rivals}


def recorded() -> dict[str, Any]:
    """A run that keeps every bar."""
    extend = case(bars.EXTEND, 0.5, **{bars.FLASH: {"seconds": 2.2e-3}, bars.CUDNN: {"seconds": 1e-3}})
    exact = [case(f"{name} exact", 0.25) for name in (bars.DECODE, bars.LONG_DECODE, bars.EXTEND)]
    usual = [case(name, 0.9) for name in (bars.DECODE, bars.LONG_DECODE, *bars.LARGE)]
    took = {"weights_ms": 4.0, "keys_and_values_ms": 1.0, "step_ms": 5.5}
    draws = {"greedy_ms": 0.02, "cut_ms": 0.05, "shaped_ms": 0.1}
    steps = [{"rows": rows, "context": context, **with_shares(took | draws)} for rows, context in STEPS]
    way = {"itl_ms_p99": 12.0, "itl_p99_over_undisturbed": 1.2, "goodput_tokens_per_s": 900.0, "keeps_up": True}
    ways = dict.fromkeys(WAYS, way) | {"colocated": {**way, "goodput_tokens_per_s": 500.0}}
    return {
        "run": {"when": "2026-11-22", "parts": []},
        "kernels": {
            "conditions": {"device": "a GPU", "versions": "torch 1, CUDA 2"},
            "cases": [*usual, extend, *exact],
        },
        "decode_step": {"device": "a GPU", "steps": steps},
        "prefill": {
            "prompts": [{"prompts": 1, "tokens": 8192, "share_of_bound": 0.7, "bound_ms": 100.0, "time_ms": 143.0}]
        },
        "e2e": {"baton_tokens_per_s": 6000.0, "transformers_tokens_per_s": 1500.0},
        "interference": {"undisturbed": {"itl_ms_p99": 10.0}, "ways": ways},
        "hand_over": {
            "one_copy_ms": 3.0,
            "frames_of_8_mib": {"ms": 30.0, "share_of_one_copy": 0.1},
            "frames_of_256_mib": {"ms": 5.0, "share_of_one_copy": 0.6},
        },
        "transfer": {"copy_bound_ms": 3.0, "hand_off": {"ms": 9.0, "share_of_one_copy": 0.33}},
    }


def left(out: Path, files: Mapping[str, Any]) -> dict[str, Line]:
    """What is said of the files of a run, by bar."""
    for name, found in files.items():
        (out / f"{name}.json").write_text(json.dumps(found))
    return {line.bar.name: line for line in collate(out)}


def test_every_bar_is_judged_but_what_a_cluster_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = left(tmp_path, recorded())
    verdicts = {name: line.verdict for name, line in lines.items()}
    unmeasured = [name for name, verdict in verdicts.items() if verdict is Verdict.NOT_MEASURED]
    assert unmeasured == ["index 1 - index 0 - a step, of TTFT"]
    assert Verdict.MISSED not in verdicts.values()
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("a GPU, torch 1, CUDA 2, 2026-11-22\n")
    kept = json.loads((tmp_path / "summary.json").read_text())
    assert (kept["device"], len(kept["bars"])) == ("a GPU", len(BARS))
    assert kept["bars"][0]["bound_ms"] == pytest.approx(1.0)


BELOW = (
    ("prefill of 8k tokens, of the matmul rate", ("prefill", "prompts", 0, "share_of_bound"), 0.59),
    ("64 streams end to end, over transformers", ("e2e", "transformers_tokens_per_s"), 2001.0),
    ("sampling, 64 rows, of a step", ("decode_step", "steps", 1, "share_of_shaped"), 0.04),
    ("decode step, 1 row, of the weights' bound", ("decode_step", "steps", 0, "share_of_weights_bound"), float("nan")),
    ("hand-over of 32k tokens, of copy bandwidth", ("hand_over", "frames_of_256_mib", "share_of_one_copy"), 0.49),
    ("goodput beside prompts, over one engine", ("interference", "ways", "colocated", "goodput_tokens_per_s"), 901.0),
    (f"{bars.EXTEND}, beside FlashAttention-2", ("kernels", "cases", -4, "rivals", bars.FLASH, "seconds"), 1.9e-3),
)


@pytest.mark.parametrize(("bar", "place", "value"), BELOW, ids=[bar for bar, _, _ in BELOW])
def test_a_figure_below_its_bar_misses_that_bar_alone(
    tmp_path: Path, bar: str, place: tuple[str | int, ...], value: float
) -> None:
    files: Any = recorded()
    holder = files
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    lines = left(tmp_path, files)
    assert [name for name, line in lines.items() if line.verdict is Verdict.MISSED] == [bar]


def test_the_best_way_keeps_itl_and_keeps_up_before_it_has_goodput(tmp_path: Path) -> None:
    files = recorded()
    ways = files["interference"]["ways"]
    ways["time_sliced"] = {**ways["green"], "itl_p99_over_undisturbed": 4.0, "goodput_tokens_per_s": 5000.0}
    ways["priority"] = {**ways["green"], "keeps_up": False, "goodput_tokens_per_s": 5000.0}
    found = left(tmp_path, files)["ITL p99 beside prompts, over undisturbed"]
    assert found.reading is not None
    assert found.reading.note == "green"


def test_what_did_not_get_so_far_says_why(tmp_path: Path) -> None:
    """A part without a file, one that was cut off, one whose check failed, a rival that is not there."""
    files = recorded()
    del files["prefill"]
    files["run"]["parts"] = [{"part": "prefill", "status": "deadline"}]
    files["kernels"]["cases"][0] |= {"timing": None, "error": 0.5}
    files["kernels"]["cases"][1] |= {"timing": None, "error": float("nan"), "failure": "OutOfResources: shared memory"}
    files["e2e"] = {"baton_tokens_per_s": 1.0, "transformers": "not installed"}
    files["decode_step"] = {"device": "a GPU", "all_passed": False}
    lines = left(tmp_path, files)
    (tmp_path / "hand_over.json").write_text("{")
    lines = {line.bar.name: line for line in collate(tmp_path)}
    assert "prefill: deadline" in lines["prefill of 8k tokens, of the matmul rate"].why
    assert "wrong by 5.0e-01" in lines[f"{bars.DECODE}, of copy bandwidth"].why
    assert "OutOfResources" in lines[f"{bars.LONG_DECODE}, of copy bandwidth"].why
    assert "not installed" in lines["64 streams end to end, over transformers"].why
    assert lines["sampling, 1 row, of a step"].verdict is Verdict.NOT_MEASURED
    assert lines["hand-over of 32k tokens, of copy bandwidth"].verdict is Verdict.NOT_MEASURED
    assert lines["gate 8192, of copy bandwidth"].verdict is Verdict.KEPT
    assert len(table(list(lines.values())).splitlines()) == len(BARS) + 1


def test_a_run_of_nothing_is_a_table_of_what_is_missing(tmp_path: Path) -> None:
    assert not summarise(tmp_path)
    assert {line.verdict for line in collate(tmp_path)} == {Verdict.NOT_MEASURED}


def test_bars_name_cases_and_steps_that_are_measured_and_come_first() -> None:
    names = [planned.name for planned in CASES]
    assert set(names[: len(FIRST)]) == set(FIRST) == {bars.DECODE, bars.LONG_DECODE, bars.EXTEND, *bars.LARGE}
    assert {f"{name} exact" for name in (bars.DECODE, bars.LONG_DECODE, bars.EXTEND)} <= set(names)
    assert {(1, 1024), (64, 1024)} <= set(STEPS)


def test_the_file_of_what_was_not_run_lists_every_bar() -> None:
    """As `summarise` writes it of an empty folder, with the command that measures them."""
    kept = json.loads(NOT_RUN.read_text())
    assert [(bar["bar"], bar["part"], bar["wanted"]) for bar in kept["bars"]] == [
        (bar.name, bar.part, bar.wanted) for bar in BARS
    ]
    assert {bar["verdict"] for bar in kept["bars"]} == {Verdict.NOT_MEASURED}
