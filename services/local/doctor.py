"""`baton doctor`: is every part of a cluster there, do the parts fit, and how fast is every link?"""

import asyncio
from dataclasses import replace

from rich.console import Console

from common.config.config import Config
from common.core.errors import BatonError, DeadlineExceeded, Unavailable
from common.directory.probe import ping
from common.model.description import ModelDescription, describe
from kernels.cpu.library import load
from protos.baton.v1 import cluster_pb2, generation_pb2
from services.local.client import router_client
from services.local.finding import Finding, fault, is_healthy, note, print_findings, well
from services.local.links import link_findings, link_table, measure_links
from services.local.ports import is_free
from services.local.topology import ROOT
from services.local.workers import ask_workers, check_layouts, check_missing, check_roles


async def doctor(config: Config, router: str, *, console: Console) -> bool:
    """Print every finding and the links. True when nothing is at fault; a cluster that does not run is a fault."""
    model, model_finding = await _check_model(config)
    operators = await asyncio.to_thread(_check_operators)
    try:
        async with router_client(router) as client:
            view, served = await client.cluster(), await client.model()
    except (Unavailable, DeadlineExceeded):  # nobody there, or somebody who is frozen
        findings = [model_finding, operators, _check_port(router), await _check_own_redis(config)]
        print_findings(findings, console)
        return False
    findings = [
        _compare_model(model, model_finding, served),
        operators,
        well(f"router {router}", f"{view.router.router_id} answers and knows {len(view.workers)} workers"),
        await _check_directory(view, config.liveness.redis_timeout_s),
        *check_roles(view.workers),
        *check_missing(view.missing),
    ]
    asked = await ask_workers(view.workers, client.connect_worker)
    findings += [each.finding for each in asked]
    findings += check_layouts([each.status for each in asked if each.status is not None])
    links = await measure_links(view.workers, client.connect_worker)
    print_findings([*findings, *link_findings(links)], console)
    if links:
        console.print("")
        console.print(link_table(links))
    return is_healthy([*findings, *link_findings(links)])


async def _check_model(config: Config) -> tuple[ModelDescription | None, Finding]:
    folder = ROOT / config.model.path
    try:
        found = await asyncio.to_thread(describe, folder, verify_manifest=config.model.verify_manifest)
    except BatonError as error:
        return None, fault("model files", error.message, "set model.path to a Hugging Face folder that is whole")
    if not found.has_manifest:
        return found, note("model files", f"{found.name} has no manifest: a flipped bit would go unnoticed")
    checked = "every file matches its manifest" if config.model.verify_manifest else "manifest not checked"
    return found, well("model files", f"{found.name}, {found.num_parameters / 1e6:.1f} M parameters, {checked}")


def _check_operators() -> Finding:
    """What workers on this machine compute with on the CPU."""
    loaded = load()
    if loaded.native is None:
        return note("cpu operators", f"torch's: {loaded.reason}", "apt install g++, then python -m kernels.cpu.build")
    return well("cpu operators", f"{loaded.reason}; rows are exact in every type")


def _compare_model(own: ModelDescription | None, finding: Finding, served: generation_pb2.GetModelResponse) -> Finding:
    """The files here are worth a fault only when the cluster serves them."""
    if own is None:
        return note("model files", f"the cluster serves {served.name}; here: {finding.detail}", finding.fix)
    if own.digest != served.model_digest:
        fix = "give doctor the cluster's --config, or --set model.path=..."
        return note("model files", f"the cluster serves {served.name}, the files here are {own.name}", fix)
    return replace(finding, detail=f"{finding.detail}; the cluster serves it")


def _check_port(router: str) -> Finding:
    """Nobody answers as a router: is the port free to start one, or whose is it?"""
    host, _, port = router.rpartition(":")
    if is_free(int(port), host.strip("[]")):
        return fault(f"router {router}", "nothing listens there", "run `baton up`, or give its address: --router")
    detail = "the port is taken, but no router answers"
    return fault(f"router {router}", detail, "stop what listens there, or give the router's address: --router")


async def _check_own_redis(config: Config) -> Finding:
    """Without a cluster, the Redis of the configuration: needed by workers started by hand, not by `baton up`."""
    try:
        seconds = await ping(config.cluster.redis_url, timeout_s=config.liveness.redis_timeout_s)
    except BatonError as error:
        return note("redis", f"{error.message} (cluster.redis_url)", "nothing to do for `baton up`: it brings its own")
    return well("redis", f"answers in {seconds * 1000:.1f} ms (cluster.redis_url)")


async def _check_directory(view: cluster_pb2.GetClusterResponse, timeout_s: float) -> Finding:
    """The Redis that the router uses, as the router sees it and as we do."""
    where = view.directory or "its Redis"
    try:
        seconds: float | None = await ping(view.directory, timeout_s=timeout_s) if view.directory else None
    except BatonError:
        seconds = None
    seen = f"answers here in {seconds * 1000:.1f} ms" if seconds is not None else "does not answer from here"
    if view.directory_is_stale:
        fix = "is it running, and may the router log in? Until then routing goes by load alone"
        return fault("redis", f"{where}: the router gets no answer; it {seen}", fix)
    if seconds is None:
        return note("redis", f"{where}: the router reaches it; it {seen}")
    return well("redis", f"{where}: the router reaches it; it {seen}")
