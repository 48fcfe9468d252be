"""`baton explain`: why a request went where it went, with the routes that lost."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from protos.baton.v1 import cluster_pb2
from services.local.client import RouterClient


async def explain(client: RouterClient, request_id: str, console: Console) -> None:
    """Print every decision about it. Raises NotFound when this router does not remember the request."""
    found = await client.explain(request_id)
    if not found.decisions:
        console.print(f"{request_id} was never placed: it was refused, or it still waits", highlight=False)
    for decision in found.decisions:
        console.print(f"attempt {decision.attempt}, policy {decision.policy}: {decision.chosen}", highlight=False)
        console.print(candidate_table(decision))
    console.print(
        "\nA > B: A reads the prompt, B writes the answer. local: B does both. Costs are estimates.", style="dim"
    )


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
