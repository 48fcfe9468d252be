"""Which operators a worker computes with, and on which cores."""

import os

import pytest

from common.config.sections.engine import EngineSection
from common.core.errors import StartupError
from common.worker.compute import check_exact, choose_kernels, parse_cpus, stay_on
from kernels import dispatch
from kernels.cpu import library
from kernels.cpu.library import Loaded


@pytest.fixture(autouse=True)
def own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test chooses ends with it."""
    monkeypatch.setattr(dispatch, "_chosen", dispatch.Kernels.AUTO)
    monkeypatch.setattr(dispatch, "_is_exact", False)


def test_the_knobs_reach_the_operators():
    told: list[str] = []
    choose_kernels(EngineSection(kernels="torch"), told.append)
    assert dispatch.native() is None
    assert told == ["torch operators, as configured"]


def test_that_operators_are_compiled_is_told_before_they_are(monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    def load() -> Loaded:
        assert told[:1] == ["compiling for minutes"]
        return Loaded(native=None, reason="found in the end")

    monkeypatch.setattr(library, "outlook", lambda: "compiling for minutes")
    monkeypatch.setattr(dispatch, "load", load)
    choose_kernels(EngineSection(), told.append)
    assert told == ["compiling for minutes", "found in the end"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_type_in_which_torch_is_not_exact_is_refused_where_exactness_is_a_must(dtype: str):
    engine = EngineSection(kernels="torch", exact="always")
    choose_kernels(engine, lambda line: None)
    check_exact(engine, "float32")
    check_exact(EngineSection(kernels="torch"), dtype)
    with pytest.raises(StartupError, match=dtype):
        check_exact(engine, dtype)


def test_a_gpu_is_exact_where_it_must_be_unless_its_exact_products_are_missing(monkeypatch: pytest.MonkeyPatch):
    engine = EngineSection(kernels="torch", exact="always")
    choose_kernels(engine, lambda line: None)
    assert dispatch.is_exact()
    monkeypatch.setattr(dispatch, "has_triton", lambda: True)
    check_exact(engine, "bfloat16", is_on_gpu=True)
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    with pytest.raises(StartupError, match="triton"):
        check_exact(engine, "bfloat16", is_on_gpu=True)
    choose_kernels(EngineSection(kernels="torch"), lambda line: None)
    assert not dispatch.is_exact()


def test_native_operators_that_cannot_be_had_end_the_start_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "load", lambda: Loaded(native=None, reason="no compiler"))
    with pytest.raises(StartupError, match="no compiler"):
        choose_kernels(EngineSection(kernels="native"), lambda line: None)


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("1,3", {1, 3}), ("0-2", {0, 1, 2}), ("0,2-4", {0, 2, 3, 4})])
def test_cores_are_listed_or_ranged(text: str, cpus: set[int]):
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["other", "1-", "0,,1", "-1", "0 1", "1e3"])
def test_other_forms_of_a_list_of_cores_are_refused(text: str):
    with pytest.raises(StartupError, match="not a list of cores"):
        parse_cpus(text)


def test_a_process_stays_on_the_cores_it_was_given():
    before = os.sched_getaffinity(0)
    try:
        stay_on({min(before)})
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        stay_on(before)


def test_a_core_that_is_not_there_is_refused_by_name():
    with pytest.raises(StartupError, match="100000"):
        stay_on({100_000})
