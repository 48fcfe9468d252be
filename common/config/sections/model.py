"""Which model is served."""

from dataclasses import dataclass

from common.config.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """Which model is served. Every process of a cluster reads the same folder."""

    path: str = knob(
        "models/demo",
        owner="common/model",
        unit="path",
        reason="the demo model that ships with the project, relative to the checkout",
    )
    name: str = knob("", owner="services/router", reason="the name clients ask for; empty: the folder's name")
    dtype: str = knob(
        "float32",
        owner="common/model",
        reason="exact on every CPU, with or without native operators; auto takes the checkpoint's own, often faster",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    verify_manifest: bool = knob(
        True,
        owner="common/model",
        reason="hashing 30 MB costs 0.1 s; a corrupt file is refused instead of served",
    )
    max_context: int | None = knob(
        None,
        owner="common/engine",
        unit="tokens",
        reason="none: what config.json says; smaller saves pages",
        minimum=1,
    )
