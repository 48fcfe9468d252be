"""CUDA tensors go to Triton's operators; a machine without triton serves on its CPU."""

import subprocess
import sys

import pytest
import torch

from kernels.attention import attention, attention_rows
from kernels.attention_form import AttentionForm
from kernels.cpu.gather import Workspace
from kernels.dispatch import Backend
from kernels.paged_rows import PagedRows
from tests.architecture.source import ROOT
from tests.kernels.gpu.contexts import LAYER, Contexts, Heads, Span

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None
import torch
from kernels.attention import attention_rows
from kernels.dispatch import backend
kv = torch.zeros(4, 1, 2, 1, 16, 16)
attention_rows([[0]], [0], [3], kv)
print(backend(kv).value)
"""


def test_attention_on_a_gpu_reads_pages_where_they_lie(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    contexts = Contexts([40], Heads(query=2, key=1, dim=16), device)
    monkeypatch.setattr("kernels.attention.backend", lambda tensor: Backend.TRITON)
    rows = attention_rows(contexts.tables, [38], [2], contexts.kv)
    assert isinstance(rows, PagedRows)
    form = AttentionForm(scale=0.2)
    out_THD = attention(contexts.q[0][38:], contexts.kv, LAYER, rows, Workspace(), form)
    assert torch.allclose(out_THD, contexts.expected([Span(context=0, first=38, end=40)], form), atol=2e-5)


def test_rows_on_a_cpu_need_no_triton() -> None:
    """In a process of its own, in which triton cannot be imported."""
    command = [sys.executable, "-c", WITHOUT_TRITON]
    made = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert made.stdout == "cpu\n", made.stderr
