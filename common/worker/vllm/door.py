"""Opens this room for a worker: builds its parts, or says what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.config.config import Config
from common.config.secret import read_secret
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import StartupError
from common.core.ids import RouterId, RouterRef
from common.kv.hashing import scope_key
from common.worker.presence import Presence
from common.worker.subscriptions import Subscriptions
from common.worker.vllm.calls import Calls, Placing
from common.worker.vllm.card import read_card
from common.worker.vllm.handover import Sealer
from common.worker.vllm.listener import Listener

TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmDoor:
    """What the node serves, and what it runs beside it."""

    name: str
    add: Callable[[Any], None]
    listener: Listener


def open_door(
    config: Config,
    placing: Placing,
    *,
    presence: Presence,
    subscriptions: Subscriptions,
    clock: Clock,
    entropy: Entropy,
) -> VllmDoor:
    """Raises StartupError without the contract's package, or without a cluster secret to seal hand-overs with."""
    try:
        from smg_grpc_proto.generated import vllm_engine_pb2_grpc

        from common.worker.vllm.servicer import SERVICE_NAME, VllmServicer
    except ImportError as error:
        raise StartupError(message="listen.vllm needs the package smg-grpc-proto: pip install baton[vllm]") from error
    secret = read_secret(config.cluster)
    if not secret:
        raise StartupError(message="listen.vllm needs cluster.secret_file: hand-overs are sealed with it")
    me = RouterRef(RouterId(f"vllm@{presence.worker.worker}"), presence.worker.epoch)
    listener = Listener(subscriptions, me)
    calls = Calls(placing, me=me, scope=scope_key(TENANT, "", secret), clock=clock, entropy=entropy)
    servicer = VllmServicer(
        presence=presence,
        card=read_card(config),
        calls=calls,
        placing=placing,
        listener=listener,
        sealer=Sealer(secret),
        clock=clock,
    )
    add = partial(vllm_engine_pb2_grpc.add_VllmEngineServicer_to_server, servicer)
    return VllmDoor(name=SERVICE_NAME, add=add, listener=listener)
