"""The GPU's scripts run in miniature where there is none, so that a session with one does not begin by mending them."""

from pathlib import Path

import pytest
import torch

from kernels.dispatch import Backend, backend
from tests.gpu import decode_step
from tests.gpu.__main__ import LEAST_S, Part, forget, parts, run_part
from tests.gpu.decode_step import checks
from tests.gpu.rows import contexts
from tests.gpu.step_times import with_shares


def test_every_check_passes_in_miniature() -> None:
    torch.set_num_threads(1)
    found = checks(torch.device("cpu"), lambda run: run, is_interpreted=True)
    assert found["all_passed"], found
    assert backend(torch.zeros(1)) is Backend.CPU


def test_a_check_that_cannot_be_run_is_told_and_stops_only_the_times_that_rest_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> bool:
        raise RuntimeError("no such call in this driver")

    def passes(*_: object, **__: object) -> bool:
        return True

    for name in ("draws_are_equal", "graphs_are_equal", "pages_are_equal", "ahead_is_equal"):
        monkeypatch.setattr(decode_step, name, passes)
    monkeypatch.setattr(decode_step, "forward_error", lambda *_, **__: 1e-6)
    for name, may_be_timed in (("moves_keep_their_order", True), ("graphs_are_equal", False)):
        monkeypatch.setattr(decode_step, name, fails)
        found = checks(torch.device("cpu"), lambda run: run, is_interpreted=True)
        assert "RuntimeError: no such call in this driver" in found.values()
        assert (found["all_passed"], found["may_be_timed"]) == (False, may_be_timed)


def test_contexts_share_no_page_and_hold_their_tokens() -> None:
    tables = contexts([70, 3, 20])
    assert [len(table) for table in tables] == [5, 1, 2]
    assert sorted(page for table in tables for page in table) == list(range(8))


def test_shares_of_a_step_can_be_counted_by_hand() -> None:
    """The bar of one row is of its weights alone; draws are judged beside the whole step."""
    took = {"weights_ms": 4.0, "keys_and_values_ms": 1.0, "step_ms": 8.0}
    step = with_shares({**took, "greedy_ms": 0.08, "cut_ms": 0.16, "shaped_ms": 0.4})
    assert (step["share_of_weights_bound"], step["share_of_bound"]) == (0.5, 0.625)
    assert (step["share_of_greedy"], step["share_of_cut"], step["share_of_shaped"]) == (0.01, 0.02, 0.05)


def test_all_parts_fit_ten_minutes(tmp_path: Path) -> None:
    assert sum(part.limit_s for part in parts(tmp_path, "", has_two=False)) < 600


def test_a_part_without_a_gpu_says_so_and_one_that_hangs_ends_at_its_deadline(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        ended = run_part(Part(name="none", arguments=("tests.gpu.decode_step",), limit_s=60), tmp_path)
        assert (ended["status"], "no GPU here" in str(ended["last_words"])) == (2, True)
    server = ("http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path))
    assert run_part(Part(name="hangs", arguments=server, limit_s=1), tmp_path)["status"] == "deadline"


def test_what_has_no_time_left_is_not_begun_and_says_so(tmp_path: Path) -> None:
    ended = run_part(Part(name="late", arguments=("no.such.module",), limit_s=60), tmp_path, left_s=LEAST_S - 1)
    assert (ended["status"], ended["seconds"]) == ("no time left", 0.0)
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_an_earlier_run_is_taken_for_this_ones(tmp_path: Path) -> None:
    for name in ("prefill", "summary", "notes"):
        (tmp_path / f"{name}.json").write_text("{}")
    forget(tmp_path, ("prefill", "summary", "run"))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]
