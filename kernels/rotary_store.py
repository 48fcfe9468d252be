"""From the projection to the attention: norm of queries and keys per head, rotation, and store into pages.

Bound by bytes. On a GPU one pass (kernels/gpu/rotary_store), elsewhere the operators one after the other.

Legend: T tokens, X = H + 2 K heads of the projection, H query heads, K key-value heads, D head dim, E turned pairs,
G = H + K normalised heads, P pages, L layers, 2 key and value, S slots per page.
"""

from torch import Tensor

from kernels.dispatch import Backend, backend
from kernels.kv_store import Slots, kv_store, slot_rows
from kernels.norm import HeadNorm, rms_norm_heads_
from kernels.rotary import rotary_


def rotary_store(
    qkv_TXD: Tensor,
    kv_PL2KSD: Tensor,
    layer: int,
    slots: Slots,
    *,
    rotation: tuple[Tensor, Tensor] | None = None,
    norm: HeadNorm | None = None,
) -> Tensor:
    """q_THD, a view of `qkv_TXD`, which is written to; keys and values lie in their slots.

    `rotation` is cos_TE and sin_TE. Tokens may be strided, their heads lie end to end.
    """
    if backend(qkv_TXD) is Backend.TRITON:
        from kernels.gpu.rotary_store import rotary_store as rotary_store_on_gpu

        return rotary_store_on_gpu(qkv_TXD, kv_PL2KSD, layer, slots, rotation=rotation, norm=norm)
    num_kv = kv_PL2KSD.shape[3]
    num_heads = qkv_TXD.shape[1] - 2 * num_kv
    turned_TGD = qkv_TXD[:, : num_heads + num_kv]
    if norm is not None:
        rms_norm_heads_(turned_TGD, norm.weight_GD, norm.epsilon)
    if rotation is not None:
        rotary_(turned_TGD[..., : 2 * rotation[0].shape[1]], *rotation)
    q_THD, k_TKD, v_TKD = qkv_TXD.split_with_sizes([num_heads, num_kv, num_kv], dim=1)
    kv_store(kv_PL2KSD, layer, slot_rows(kv_PL2KSD, slots.pages_T, slots.offsets_T), k_TKD, v_TKD)
    return q_THD
