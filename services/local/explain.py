"""`baton explain`: why a request went where it went, with the routes that lost."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from protos.baton.v1 import cluster_pb2
from services.local.client import RouterClient
from services.local.prompt import check_text

MEANING = {
    "queue": "prompts ahead of it",
    "read": "reading its own prompt",
    "late": "a queue much longer than the shortest",
    "others": "the reader's time that later requests miss",
    "neighbours": "answers that its prompt holds up",
    "balance": "a reader that got more than its peers lately",
    "fetch": "fetching cached pages",
    "copied": "cached pages that the fetched ones push out",
    "write": "writing its answer",
    "crowd": "answers that it slows down",
    "slows": "reading that is slowed down there while it writes",
    "full": "a pool that fills up",
    "hand_over": "bringing the pages over",
    "displaced": "cached pages that the hand-over pushes out",
    "beside": "prompts that are still being read where it is written",
    "young": "a worker that has just joined",
    "silent": "a worker that has gone quiet",
    "avoid": "a worker that failed this request",
}
"""The policy's terms in words; a reader's own come with `prefill_` in front."""

SOURCES = {
    "peers": "the reader has no timings of its own yet: its peers' were used",
    "default": "nobody has measured timings yet: the documented default was used",
}


async def explain(client: RouterClient, request_id: str, console: Console) -> None:
    """Print every decision about it.

    Raises NotFound when this router does not remember the request, InvalidRequest where it is no id.
    """
    check_text("REQUEST_ID", request_id)
    found = await client.explain(request_id)
    if not found.decisions:
        console.print(f"{request_id} was never placed: it was refused, or it still waits", highlight=False)
    for decision in found.decisions:
        console.print(f"attempt {decision.attempt}, policy {decision.policy}: {decision.chosen}", highlight=False)
        for sentence in sentences(decision):
            console.print(f"  {sentence}", highlight=False)
        console.print(candidate_table(decision))
    console.print(
        "\nA > B: A reads the prompt, B writes the answer. local: B does both. Costs are estimates.", style="dim"
    )


def sentences(decision: cluster_pb2.Decision) -> list[str]:
    """What was expected of the choice, whose timings said so, and what spoke against the best that lost."""
    ranked = sorted(decision.candidates, key=lambda each: each.cost_s)
    chosen = next((each for each in ranked if each.route == decision.chosen), None)
    if chosen is None:
        return []
    told = [
        f"{_in_words(chosen.route)}: first token expected after {_ms(chosen.ttft_s)}, then {_ms(chosen.itl_s)} each"
    ]
    if (fetch_s := chosen.terms.get("fetch", 0.0)) > 0:
        told.append(f"fetching the pages is expected to take {_ms(fetch_s)}; what does not come in time is read")
    if (remark := SOURCES.get(chosen.cost_source)) is not None:
        told.append(remark)
    for other in ranked:
        if other.route != chosen.route:
            told.append(_comparison(chosen, other))
            break
    return told


def _comparison(chosen: cluster_pb2.CandidateCost, other: cluster_pb2.CandidateCost) -> str:
    """The next best and the term that tells them apart most."""
    names = {*chosen.terms, *other.terms}
    against = max(sorted(names), key=lambda name: other.terms.get(name, 0.0) - chosen.terms.get(name, 0.0))
    gap_s, by_s = other.cost_s - chosen.cost_s, other.terms.get(against, 0.0) - chosen.terms.get(against, 0.0)
    if gap_s < 0:
        return f"{_in_words(other.route)} would have cost {_ms(-gap_s)} less, but was not allowed"
    if by_s <= 0:
        return f"{_in_words(other.route)} would have cost the same"
    why = MEANING.get(against.removeprefix("prefill_"), against)
    return f"{_in_words(other.route)} lost by {_ms(gap_s)}: {why} ({against}) would have cost {_ms(by_s)} more"


def _in_words(route: str) -> str:
    path, _, source = route.partition("<")
    fetched = f", with pages fetched from {source}" if source else ""
    if path.startswith("local:"):
        return f"{path.removeprefix('local:')} reads and writes{fetched}"
    reader, _, writer = path.partition(">")
    return f"{reader} reads, {writer} writes{fetched}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def candidate_table(decision: cluster_pb2.Decision) -> Table:
    """Candidates from cheap to dear, each with the terms of its cost that are not zero."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("route", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("made of, in ms")
    for candidate in sorted(decision.candidates, key=lambda each: each.cost_s):
        is_chosen = candidate.route == decision.chosen
        table.add_row(
            "*" if is_chosen else "",
            candidate.route.replace(">", " > "),
            f"{candidate.cost_s * 1000:.1f} ms",
            _terms(candidate.terms),
            style="bold" if is_chosen else "",
        )
    return table


def _terms(terms: Mapping[str, float]) -> str:
    dear_first = sorted(terms.items(), key=lambda term: -term[1])
    return ", ".join(f"{name.replace('_', ' ')} {seconds * 1000:.1f}" for name, seconds in dear_first if seconds) or "-"
