"""Composition root of a router process: configuration in, a serving process out."""

import asyncio
from functools import partial
from pathlib import Path

from common.config.config import Config
from common.config.secret import read_secret
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.worker import Role
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.kv.sim_layout import sim_layout
from common.model.description import ModelDescription, describe
from common.model.folder import GENERATION_FILE
from common.model.forbidden import Forbidden
from common.model.rope_form import LongScaling
from common.observe.announce import Announcement, Phase, announce
from common.observe.farewell import Farewell
from common.observe.health import Condition, Readiness
from common.observe.http import HealthServer, standard_pages
from common.observe.logging import LogFormat, configure_logging, get_log
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.tracing.tracer import make_tracer
from common.observe.vitals import Vitals
from common.rpc.bind import Bind
from common.rpc.client import grpc_connect
from common.rpc.identity import read_tls
from common.rpc.options import Pings, Surface
from common.rpc.server import make_grpc_server
from common.text.grammar.inspector import ChildInspector, Inspector
from common.text.tokenizer import Tokenizer
from common.transfer.offload import ThreadOffload
from services.router.node import Outside, RouterNode
from services.router.validate import ModelFacts

_LOG = get_log("router")


async def run_router(config: Config, name: str) -> None:
    """Until SIGTERM or SIGINT. Raises StartupError when it cannot start."""
    configure_logging(log_format=LogFormat.JSON, process=name, level=config.listen.log_level)
    announce(Announcement(name=name, phase=Phase.LOADING, detail=f"reading {config.model.path}"))
    folder = Path(config.model.path)
    # Workers verify the manifest; here the model's numbers and its tokenizer are enough.
    description = await asyncio.to_thread(describe, folder, verify_manifest=False)
    tell_overlooked(name, description.forbidden)
    tokenizer = await asyncio.to_thread(Tokenizer.load, folder)
    tell_dropout(name, tokenizer)
    offload = ThreadOffload()
    try:
        await _serve(config, name, model_facts(config, description), tokenizer, offload)
    finally:
        offload.close()


def tell_overlooked(name: str, forbidden: Forbidden) -> None:
    """What the model's authors ask of sampling and nobody here does, in the log and on the starter's screen."""
    if fields := ", ".join(forbidden.overlooked):
        _LOG.warning("generation_config_overlooked", fields=fields)
        announce(Announcement(name=name, phase=Phase.LOADING, detail=f"{GENERATION_FILE}: {fields} not followed"))


def tell_dropout(name: str, tokenizer: Tokenizer) -> None:
    """That a tokenizer's file asks for ids by chance, and gives the same ones each time here."""
    if tokenizer.had_dropout:
        _LOG.warning("tokenizer_dropout_off")
        announce(Announcement(name=name, phase=Phase.LOADING, detail="tokenizer.json: model.dropout not followed"))


def model_facts(config: Config, description: ModelDescription) -> ModelFacts:
    """What requests depend on: the model's own numbers, and the operator's tighter bound on the context."""
    defaults, spec = description.generation, description.spec
    return ModelFacts(
        name=config.model.name or description.name,
        context_length=min(config.model.max_context or spec.max_positions, spec.max_positions),
        vocab_size=spec.vocab_size,
        eos_token_ids=defaults.eos_ids,
        digest=description.digest,
        pages_digest=pages_digest(config, description),
        temperature=1.0 if defaults.temperature is None else defaults.temperature,
        top_p=1.0 if defaults.top_p is None else defaults.top_p,
        top_k=defaults.top_k or 0,
        min_p=defaults.min_p or 0.0,
        repetition_penalty=defaults.repetition_penalty or 1.0,
        bans=description.forbidden.bans,
    )


def pages_digest(config: Config, description: ModelDescription) -> bytes:
    """What layouts of workers with this folder say of its weights. Empty where it says more: factors for long contexts
    follow from each worker's own bound on the context.
    """
    if config.engine.executor == "sim":
        return sim_layout().model_digest
    is_long = any(isinstance(rope.scaling, LongScaling) for rope in description.spec.ropes)
    return b"" if is_long else description.digest


async def _serve(config: Config, name: str, model: ModelFacts, tokenizer: Tokenizer, offload: ThreadOffload) -> None:
    secret, tls = read_secret(config.cluster), read_tls(config.cluster)
    metrics = Metrics(ProcessRole.ROUTER)
    if config.listen.vllm_metrics:
        metrics.speak_vllm(model.name)
    vitals = Vitals(metrics, config.cluster, SystemClock())
    readiness = Readiness((Condition.LISTENING, Condition.WORKERS_SEEN))
    inspector = ChildInspector()
    tracer = make_tracer(
        config.tracing, role="router", cluster=config.cluster.name, clock=SystemClock(), entropy=SystemEntropy()
    )
    outside = Outside(
        clock=SystemClock(),
        entropy=SystemEntropy(),
        connect=grpc_connect(Surface.INTERNAL, tls, pings=Pings.of(config.liveness)),
        make_server=partial(make_grpc_server, max_message_bytes=config.router.max_message_bytes),
        store=connect(config.cluster, config.liveness, user=RedisUser.ROUTER, secret=secret),
        offload=offload,
        inspector=inspector,
        tracer=tracer,
        lost_s=vitals.lag.lost_s,
    )
    node = RouterNode(
        name, config=config, model=model, tokenizer=tokenizer, secret=secret, outside=outside, metrics=metrics
    )

    def refresh() -> None:
        vitals.refresh()
        node.mirror.show_age()

    pages = standard_pages(metrics, None, readiness, refresh=refresh)
    async with HealthServer(pages, host=config.listen.host, port=config.listen.metrics_port) as http:
        process = _Process(name, node, readiness, http.address, inspector, may_hold=config.router.hold_s > 0)
        with vitals:
            async with asyncio.TaskGroup() as group:
                welcome = group.create_task(process.welcome(), name="welcome")
                bind = Bind(host=config.listen.host, port=config.listen.port, tls=tls)
                await node.serve(bind, farewell=process.farewell, on_listening=process.listening)
                welcome.cancel()
    await inspector.close()
    await offload.run(tracer.close)
    if node.failure is not None:
        raise node.failure
    _LOG.info("router_stopped", router=name)


class _Process:
    """What this process says about itself: phases to its supervisor, conditions to /readyz."""

    def __init__(
        self,
        name: str,
        node: RouterNode,
        readiness: Readiness,
        metrics_address: str,
        inspector: Inspector,
        *,
        may_hold: bool,
    ) -> None:
        self._name = name
        self._node = node
        self._readiness = readiness
        self._metrics_address = metrics_address
        self._inspector = inspector
        self._may_hold = may_hold
        self._address = ""
        self._listens = asyncio.Event()
        self.farewell = Farewell(self._leave).listen()

    def listening(self, address: str) -> None:
        self._address = address
        self._readiness.meet(Condition.LISTENING)
        self._say(Phase.LOADING, "waiting for a decode worker")
        self._listens.set()

    async def welcome(self) -> None:
        """Ready once a request could be served, or, where a fleet may be at none, held until one comes: a router that
        nobody asks queues nothing, and nothing would bring the first worker."""
        await self._listens.wait()  # bounded: ends with the TaskGroup
        await self._inspector.warm()  # bounded: by its own deadline
        if not self._may_hold:
            await self._node.fleet.wait_present()
        self._readiness.meet(Condition.WORKERS_SEEN)
        workers = self._node.fleet.view()
        facts = {f"{role}_workers": float(len(workers.eligible(role))) for role in Role}
        self._say(Phase.READY, "serving", facts)
        _LOG.info("router_ready", router=self._name, epoch=self._node.me.epoch, address=self._address)

    def _leave(self) -> None:
        self._readiness.drain()
        self._say(Phase.DRAINING, "finishing what runs")

    def _say(self, phase: Phase, detail: str, facts: dict[str, float] | None = None) -> None:
        announce(
            Announcement(
                name=self._name,
                phase=phase,
                address=self._address,
                metrics=self._metrics_address,
                detail=detail,
                facts=facts or {},
            )
        )
