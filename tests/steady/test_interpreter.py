"""The interpreter's language is made once for a launch and module, not for every call; tests/kernels/gpu say that what
is computed is right."""

import sys
from types import FunctionType, ModuleType, SimpleNamespace

import pytest
import torch

import kernels.gpu.norm
from tests.steady import interpreter


def test_a_module_is_patched_once_in_every_launch() -> None:
    """A launch undoes what its kernel's module needed, so the next one begins anew."""
    patched: list[str] = []

    def kernel() -> None: ...

    def helper() -> None: ...

    helper.__module__ = "elsewhere"

    class Executor:
        def __call__(self, *, num_calls: int) -> None:
            assert fake._patch_lang(kernel) == "undo"
            for _ in range(num_calls):
                fake._patch_lang(helper)

    def patch(function: FunctionType) -> str:
        patched.append(function.__module__)
        return "undo"

    fake = ModuleType("fake")
    fake.__dict__.update(_patch_lang=patch, GridExecutor=Executor)
    interpreter._patch(fake)
    for _ in range(2):
        Executor()(num_calls=100)
    assert patched == [kernel.__module__, "elsewhere"] * 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are compiled where there is a GPU")
def test_it_is_so_in_this_process() -> None:
    assert kernels.gpu.norm is not None
    assert sys.modules["triton.runtime.interpreter"]._patch_lang.__module__ == interpreter.__name__


def test_where_nothing_is_interpreted_nothing_is_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triton.runtime.interpreter", raising=False)
    interpreter.patch_once()
    other = SimpleNamespace(_patch_lang=interpreter.patch_once)
    monkeypatch.setitem(sys.modules, "triton.runtime.interpreter", other)
    interpreter.patch_once()
    assert other._patch_lang is interpreter.patch_once, "patched a second time"
