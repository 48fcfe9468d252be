"""How pages of the simulated executor look. Free of numpy, as routers are."""

from common.kv.layout import PageLayout

SLOT_BYTES = 16
"""Bytes of one slot: what the simulated executor writes per token."""


def sim_layout(*, page_size: int = 16, model_digest: bytes = b"sim") -> PageLayout:
    """A layout whose token takes SLOT_BYTES: two layers, one head, a quarter of a slot each for key and value."""
    return PageLayout(
        num_layers=2,
        num_kv_heads=1,
        head_dim=SLOT_BYTES // 4,
        page_size=page_size,
        dtype="sim",
        model_digest=model_digest,
    )
