"""A plain torch oracle for every operator: the formula, written to be read. Slow, exact, on any device.

Legend: T tokens, C channels, I inner channels, O output channels, H query heads, K key-value heads, D head dim,
N context length, P pages, L layers, 2 key and value, S slots per page, B rows.
"""

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor

from kernels.attention_form import AttentionForm
from kernels.gate import Gate
from kernels.quantized_pages import dequantized, is_quantized


def linear(x_TC: Tensor, weight_OC: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x W^T + b, (T, O)."""
    y_TO = x_TC @ weight_OC.T
    return y_TO if bias_O is None else y_TO + bias_O


def rms_norm(x_TC: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, computed in fp32."""
    wide_TC = x_TC.float()
    normal_TC = wide_TC * torch.rsqrt(wide_TC.square().mean(-1, keepdim=True) + epsilon)
    return normal_TC.to(x_TC.dtype) * weight_C


def add_norm(
    stream_TC: Tensor,
    weight_C: Tensor | None,
    epsilon: float,
    *,
    added_TC: Tensor | None = None,
    post_C: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The stream with what a half layer adds to it, normalised before where there is `post_C`; and its norm."""
    if added_TC is not None:
        added_TC = added_TC if post_C is None else rms_norm(added_TC, post_C, epsilon)
        stream_TC = stream_TC + scale * added_TC
    return stream_TC, stream_TC if weight_C is None else rms_norm(stream_TC, weight_C, epsilon)


def rotary(x_THD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn channel pairs (i, i + D/2) of every head by the token's angle i; E = D/2."""
    left, right = x_THD.chunk(2, dim=-1)
    cos_T1E, sin_T1E = cos_TE[:, None], sin_TE[:, None]
    return torch.cat((left * cos_T1E - right * sin_T1E, right * cos_T1E + left * sin_T1E), dim=-1)


def gate_and_multiply(gate_up_TI: Tensor, gate: Gate) -> Tensor:
    """gate(g) * u, where g is the first half of the last axis and u the second; in fp64."""
    opened, up = gate_up_TI.double().chunk(2, dim=-1)
    match gate:
        case Gate.SILU:
            opened = opened * torch.sigmoid(opened)
        case Gate.GELU:
            opened = opened * 0.5 * (1 + torch.erf(opened / 2**0.5))
        case Gate.GELU_TANH:
            inner = (2 / torch.pi) ** 0.5 * (opened + 0.044715 * opened**3)
            opened = opened * 0.5 * (1 + torch.tanh(inner))
        case _:
            assert_never(gate)
    return (opened * up).to(gate_up_TI.dtype)


def routed_experts(
    x_TC: Tensor,
    logits_TE: Tensor,
    num_chosen: int,
    gate_up_EIC: Tensor,
    down_ECJ: Tensor,
    gate: Gate,
    *,
    is_normalized: bool,
) -> Tensor:
    """Token by token: the likeliest experts, weighted by their probabilities; (T, C)."""
    rows = []
    for x_C, logits_E in zip(x_TC, logits_TE, strict=True):
        shares_E = logits_E.double().softmax(dim=-1)
        chosen = sorted(range(len(shares_E)), key=lambda expert: -float(shares_E[expert]))[:num_chosen]
        whole = sum(float(shares_E[expert]) for expert in chosen) if is_normalized else 1.0
        row_C = torch.zeros_like(x_C, dtype=torch.float64)
        for expert in chosen:
            inner_1J = gate_and_multiply(linear(x_C[None], gate_up_EIC[expert]), gate)
            row_C += linear(inner_1J, down_ECJ[expert])[0].double() * float(shares_E[expert]) / whole
        rows.append(row_C.to(x_TC.dtype))
    return torch.stack(rows)


def kv_store(kv_PL2KSD: Tensor, layer: int, pages_T: Tensor, offsets_T: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> None:
    """Write each token's key and value into its slot, (page, offset)."""
    for token, (page, offset) in enumerate(zip(pages_T.tolist(), offsets_T.tolist(), strict=True)):
        kv_PL2KSD[page, layer, 0, :, offset] = k_TKD[token]
        kv_PL2KSD[page, layer, 1, :, offset] = v_TKD[token]


def page_digest(page_B: Tensor, keys: Sequence[int], index: int) -> int:
    """(index + 1) k[0] + w[0] k[1] + w[1] k[2] + ... modulo 2^64; w are the page's little-endian 32-bit words."""
    words: list[int] = [word % 2**32 for word in page_B.view(torch.int32).tolist()]
    return ((index + 1) * keys[0] + sum(word * key for word, key in zip(words, keys[1:], strict=True))) % 2**64


def page_vectors(kv_PL2KSD: Tensor, pages: Sequence[int], num_tokens: int) -> Tensor:
    """Keys and values of a context in the order of its tokens, (L, 2, K, T, D); eight-bit ones as numbers."""
    own_NL2KSD = kv_PL2KSD[list(pages)]
    if is_quantized(kv_PL2KSD):
        num_slots = own_NL2KSD.shape[4]
        values_XSD = dequantized(own_NL2KSD.flatten(4).flatten(0, 3), num_slots)
        own_NL2KSD = values_XSD.view(*own_NL2KSD.shape[:4], *values_XSD.shape[1:])
    return own_NL2KSD.permute(1, 2, 3, 0, 4, 5).flatten(3, 4)[:, :, :, :num_tokens]


def attention(
    q_THD: Tensor, kv_PL2KSD: Tensor, layer: int, pages: Sequence[int], start: int, form: AttentionForm
) -> Tensor:
    """Causal attention of T tokens of one context, at positions start to start + T, whose own KV is stored already.

    softmax(score) v over the positions that `form` lets a token see, in fp64; (T, H, D). H/K queries share a key head.
    Slots at start + T and after are never read.
    """
    num_tokens, num_heads, _ = q_THD.shape
    end = start + num_tokens
    own_n2KSD = kv_PL2KSD[list(pages), layer]
    if is_quantized(kv_PL2KSD):
        num_slots = own_n2KSD.shape[3]
        values_XSD = dequantized(own_n2KSD.flatten(3).flatten(0, 2), num_slots)
        own_n2KSD = values_XSD.view(*own_n2KSD.shape[:3], *values_XSD.shape[1:])
    own_n2KSD = own_n2KSD.double()
    k_KND, v_KND = own_n2KSD.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :end]
    group = num_heads // k_KND.shape[0]
    k_HND, v_HND = k_KND.repeat_interleave(group, dim=0), v_KND.repeat_interleave(group, dim=0)
    scores_HTN = torch.einsum("thd,hnd->htn", q_THD.double(), k_HND) * form.scale
    if form.softcap is not None:
        scores_HTN = form.softcap * torch.tanh(scores_HTN / form.softcap)
    positions_T1 = torch.arange(start, end, device=q_THD.device)[:, None]
    keys_N = torch.arange(end, device=q_THD.device)
    is_hidden_TN = keys_N > positions_T1
    if form.window is not None:
        is_hidden_TN |= keys_N <= positions_T1 - form.window
    weights_HTN = scores_HTN.masked_fill(is_hidden_TN, float("-inf")).softmax(dim=-1)
    return torch.einsum("htn,hnd->thd", weights_HTN, v_HND).to(q_THD.dtype)
