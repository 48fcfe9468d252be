"""Every bar that a GPU has to keep, and where the parts of a run say whether it did.

Shares are of what the same run's large copy or large matrix product reached. What no part of `python -m tests.gpu`
measures stands here as well, so that a table of them is a table of all.
"""

from functools import partial

from tests.gpu.bar import Bar, Figures, Reading, Refused

DECODE, LONG_DECODE, EXTEND = "attention_decode 64 x 4k", "attention_decode 1 x 128k", "attention_extend 8k"
LARGE = (
    "residual add and norm 8192",
    "head norm, rotary, store 8192",
    "gate 8192",
    "pages gathered with digest",
    "pages scattered with digest",
)
"""Cases of kernels.bench that are bound by bytes, at a size that hides a launch."""

FLASH, CUDNN = "SDPA flash", "SDPA cuDNN"
DRAWS = ("greedy", "cut", "shaped")
COLOCATED = "colocated"
MOST_DISTURBED = 1.5
"""Times the undisturbed ITL p99. A step above it is not good, either."""


def _case(name: str, figures: Figures) -> Figures:
    for case in figures["cases"]:
        if case["name"] == name:
            if case.get("failure"):
                raise Refused(f"{name}: {case['failure']}")
            if case["timing"] is None:
                raise Refused(f"{name}: wrong by {case['error']:.1e}, so it was not timed")
            return dict(case)
    raise KeyError(name)


def _share(name: str, figures: Figures) -> Reading:
    """Of the larger of its two bounds."""
    case = _case(name, figures)
    return Reading(reached=case["share"], bound_ms=case["bound_s"] * 1e3, time_ms=case["timing"]["seconds"] * 1e3)


def _beside(name: str, rival: str, figures: Figures) -> Reading:
    """The rival's time over ours."""
    case = _case(name, figures)
    other, own_s = case["rivals"][rival], case["timing"]["seconds"]
    if isinstance(other, str):
        raise Refused(f"{rival}: {other}")
    return Reading(
        reached=other["seconds"] / own_s, time_ms=own_s * 1e3, note=f"{rival} {other['seconds'] * 1e3:.3f} ms"
    )


def _exact_cost(name: str, figures: Figures) -> Reading:
    """Time in exact mode over time by default."""
    usual, exact = (_case(each, figures)["timing"]["seconds"] for each in (name, f"{name} exact"))
    return Reading(reached=exact / usual, time_ms=exact * 1e3)


def _step(rows: int, context: int, figures: Figures) -> Figures:
    for step in figures["steps"]:
        if (step["rows"], step["context"]) == (rows, context):
            return dict(step)
    raise KeyError(f"a step of {rows} rows at {context} tokens")


def _weights(figures: Figures) -> Reading:
    step = _step(1, 1024, figures)
    return Reading(reached=step["share_of_weights_bound"], bound_ms=step["weights_ms"], time_ms=step["step_ms"])


def _batch(figures: Figures) -> Reading:
    step = _step(64, 1024, figures)
    return Reading(reached=step["share_of_bound"], bound_ms=step["bound_ms"], time_ms=step["step_ms"])


def _drawing(rows: int, figures: Figures) -> Reading:
    """The dearest way to draw."""
    step = _step(rows, 1024, figures)
    worst = max(DRAWS, key=lambda way: float(step[f"share_of_{way}"]))
    return Reading(reached=step[f"share_of_{worst}"], time_ms=step[f"{worst}_ms"], note=worst)


def _prompt(figures: Figures) -> Reading:
    for found in figures["prompts"]:
        if (found["prompts"], found["tokens"]) == (1, 8192):
            return Reading(reached=found["share_of_bound"], bound_ms=found["bound_ms"], time_ms=found["time_ms"])
    raise KeyError("a prompt of 8192 tokens")


def _end_to_end(figures: Figures) -> Reading:
    if isinstance(figures.get("transformers"), str):
        raise Refused(f"transformers: {figures['transformers']}")
    own, other = figures["baton_tokens_per_s"], figures["transformers_tokens_per_s"]
    return Reading(reached=own / other, note=f"{own:.0f} and {other:.0f} tokens/s")


def _best_way(figures: Figures) -> str:
    """Of those that read what arrived: the one with the most goodput that keeps the bar of ITL, or comes closest."""
    apart = {way: found for way, found in figures["ways"].items() if way != COLOCATED and found.get("keeps_up")}
    if not apart:
        raise Refused("no way of sharing the GPU was measured and kept up with the prompts")
    kept = [way for way, found in apart.items() if found["itl_p99_over_undisturbed"] <= MOST_DISTURBED]
    if kept:
        return max(kept, key=lambda way: float(apart[way]["goodput_tokens_per_s"]))
    return min(apart, key=lambda way: float(apart[way]["itl_p99_over_undisturbed"]))


def _disturbed(figures: Figures) -> Reading:
    way = _best_way(figures)
    found = figures["ways"][way]
    return Reading(
        reached=found["itl_p99_over_undisturbed"],
        bound_ms=figures["undisturbed"]["itl_ms_p99"],
        time_ms=found["itl_ms_p99"],
        note=way,
    )


def _goodput(figures: Figures) -> Reading:
    way, colocated = _best_way(figures), figures["ways"][COLOCATED]
    if "failed" in colocated:
        raise Refused(f"{COLOCATED}: {colocated['failed']}")
    own, other = (figures["ways"][each]["goodput_tokens_per_s"] for each in (way, COLOCATED))
    return Reading(reached=own / other, note=f"{way} {own:.0f}, {COLOCATED} {other:.0f} tokens/s")


def _handed_over(figures: Figures) -> Reading:
    """With the size of frames that is fastest."""
    sizes = {name: found for name, found in figures.items() if name.startswith("frames_of_")}
    if not sizes:
        raise KeyError("frames_of_*")
    best = max(sizes, key=lambda name: float(sizes[name]["share_of_one_copy"]))
    return Reading(
        reached=sizes[best]["share_of_one_copy"],
        bound_ms=figures["one_copy_ms"],
        time_ms=sizes[best]["ms"],
        note=best,
    )


def _alone(figures: Figures) -> Reading:
    found = figures["hand_off"]
    return Reading(reached=found["share_of_one_copy"], bound_ms=figures["copy_bound_ms"], time_ms=found["ms"])


def _elsewhere(figures: Figures) -> Reading:
    raise Refused("a cluster's figure: baton bench transfer --set engine.device=cuda")


BARS: tuple[Bar, ...] = (
    Bar(name=f"{DECODE}, of copy bandwidth", part="kernels", read=partial(_share, DECODE), least=0.85),
    Bar(name=f"{LONG_DECODE}, of copy bandwidth", part="kernels", read=partial(_share, LONG_DECODE), least=0.70),
    Bar(
        name=f"{EXTEND}, beside FlashAttention-2",
        part="kernels",
        read=partial(_beside, EXTEND, FLASH),
        least=1.0,
    ),
    Bar(name=f"{EXTEND}, of the matmul rate", part="kernels", read=partial(_share, EXTEND), least=0.45),
    Bar(name=f"{EXTEND}, beside cuDNN", part="kernels", read=partial(_beside, EXTEND, CUDNN)),
    *(Bar(name=f"{case}, of copy bandwidth", part="kernels", read=partial(_share, case), least=0.80) for case in LARGE),
    *(
        Bar(name=f"{case}, exact over default", part="kernels", read=partial(_exact_cost, case))
        for case in (DECODE, LONG_DECODE, EXTEND)
    ),
    Bar(name="decode step, 1 row, of the weights' bound", part="decode_step", read=_weights, least=0.70),
    Bar(name="decode step, 64 rows at 1k, of the bound", part="decode_step", read=_batch, least=0.75),
    Bar(name="sampling, 1 row, of a step", part="decode_step", read=partial(_drawing, 1), most=0.03),
    Bar(name="sampling, 64 rows, of a step", part="decode_step", read=partial(_drawing, 64), most=0.03),
    Bar(name="prefill of 8k tokens, of the matmul rate", part="prefill", read=_prompt, least=0.60),
    Bar(name="64 streams end to end, over transformers", part="e2e", read=_end_to_end, least=3.0),
    Bar(name="ITL p99 beside prompts, over undisturbed", part="interference", read=_disturbed, most=MOST_DISTURBED),
    Bar(name="goodput beside prompts, over one engine", part="interference", read=_goodput, least=1.0),
    Bar(name="hand-over of 32k tokens, of copy bandwidth", part="hand_over", read=_handed_over, least=0.50),
    Bar(name="its kernels alone, of copy bandwidth", part="transfer", read=_alone),
    Bar(name="index 1 - index 0 - a step, of TTFT", part="cluster", read=_elsewhere, most=0.05),
)
