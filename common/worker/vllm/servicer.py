"""`vllm.grpc.engine.VllmEngine` over one worker. Thin: work is placed and followed as a router would."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smg_grpc_proto.generated import common_pb2 as common
from smg_grpc_proto.generated import vllm_engine_pb2 as pb
from smg_grpc_proto.generated import vllm_engine_pb2_grpc as pb_grpc

from common.core.clock import Clock
from common.core.errors import Unsupported
from common.core.events import PrefillDone, PromptScored, TicketIssued, TokensEmitted, WorkEvent, WorkFailed
from common.core.request import Work
from common.core.worker import LoadReport, Role
from common.rpc.deadline import remaining_s
from common.text.choice import ChoiceText
from common.worker.presence import Presence
from common.worker.vllm.asked import Asked, ModelCard
from common.worker.vllm.calls import Calls, Placing, failure_of
from common.worker.vllm.choice import ChoiceAnswer
from common.worker.vllm.handover import HandOver, Sealer
from common.worker.vllm.listener import Inbox, Listener
from common.worker.vllm.servicer_messages import asked_from_wire, chunk, complete, progress
from common.worker.vllm.tokenizers import ModelTokenizer

if TYPE_CHECKING:
    import grpc

    from common.core.logprobs import TokenLogprobs
    from common.core.ticket import Ticket

    Context = grpc.aio.ServicerContext[Any, Any]

PROTOCOL = "baton.v1"
SERVICE_NAME = "vllm.grpc.engine.VllmEngine"
PROGRESS_S = 1.0
"""Chosen: a gateway was seen to give up a prefill worker that is silent for three seconds."""
BEAT_S = 1.0
"""Chosen: between two load records; two heartbeats."""

CHUNK_BYTES = 1 << 20
"""Chosen: of a tokenizer's file; a quarter of what grpc lets a message have by default."""

DEFAULT_S = 600.0
"""As `router.default_deadline_s`: of a request whose gateway set none."""


class VllmServicer(pb_grpc.VllmEngineServicer):  # type: ignore[misc]  # the package ships no types for its services
    """Writer: the event loop."""

    def __init__(
        self,
        *,
        presence: Presence,
        card: ModelCard,
        calls: Calls,
        placing: Placing,
        listener: Listener,
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self._presence = presence
        self._card = card
        self._calls = calls
        self._placing = placing
        self._listener = listener
        self._sealer = sealer
        self._clock = clock
        self._began = clock.monotonic()
        self._tokenizer = ModelTokenizer(card.folder)

    @property
    def _is_prefill(self) -> bool:
        return self._presence.role is Role.PREFILL

    async def Generate(self, request: pb.GenerateRequest, context: "Context") -> AsyncIterator[pb.GenerateResponse]:
        self._presence.require_ready()
        asked = asked_from_wire(request, self._card, self._sealer, is_prefill=self._is_prefill)
        left_s = remaining_s()
        work = self._calls.work(asked, remaining_s=DEFAULT_S if left_s is None else left_s)
        answers = await self._answers(asked)
        with self._listener.open(work.request) as inbox, self._calls.running(work, asked.name, keeps=self._is_prefill):
            await self._placing.place(work, None if asked.handover is None else asked.handover.ticket)
            follow = _Following(
                self._calls, self._sealer, asked, work, answers, is_prefill=self._is_prefill, clock=self._clock
            )
            async for response in follow.responses(inbox):
                yield response

    async def _answers(self, asked: Asked) -> dict[int, ChoiceAnswer]:
        if not asked.stops:
            return {index: ChoiceAnswer(index) for index in range(asked.num_choices)}
        tokenizer = await self._tokenizer.load()
        texts = (
            ChoiceText(tokenizer, stops=asked.stops, min_tokens=asked.sampling.min_tokens)
            for _ in range(asked.num_choices)
        )
        return {index: ChoiceAnswer(index, text) for index, text in enumerate(texts)}

    async def Abort(self, request: pb.AbortRequest, context: "Context") -> pb.AbortResponse:
        for name in request.request_ids:
            for work in self._calls.named(name):
                self._calls.give_up(work)
                self._listener.abort(work)
        return pb.AbortResponse()

    async def HealthCheck(self, request: pb.HealthCheckRequest, context: "Context") -> pb.HealthCheckResponse:
        return pb.HealthCheckResponse(healthy=self._presence.is_ready, message=self._presence.state.value)

    async def GetModelInfo(self, request: pb.GetModelInfoRequest, context: "Context") -> pb.GetModelInfoResponse:
        card = self._card
        return pb.GetModelInfoResponse(
            model_path=card.folder,
            tokenizer_path=card.folder,
            is_generation=True,
            max_context_length=card.max_context,
            max_req_input_len=card.max_context - 1,
            vocab_size=card.vocab_size,
            served_model_name=card.name,
            model_type=card.model_type,
            architectures=card.architectures,
            eos_token_ids=card.eos_ids,
        )

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: "Context") -> pb.GetServerInfoResponse:
        load, layout = self._presence.load(), self._presence.layout
        return pb.GetServerInfoResponse(
            active_requests=load.running_sequences + load.waiting_requests,
            uptime_seconds=self._clock.monotonic() - self._began,
            server_type="vllm-grpc",
            kv_connector="BatonConnector",
            kv_role="kv_producer" if self._is_prefill else "kv_consumer",
            kv_engine_id=self._presence.worker.worker,
            data_parallel_size=1,
            kv_cache_dtype=layout.dtype,
            block_size=layout.page_size,
            model_dtype=layout.dtype,
            pairing_protocol=f"{PROTOCOL}/{layout.fingerprint().hex()[:16]}",
            max_num_seqs=load.max_sequences,
        )

    async def GetLoads(self, request: pb.GetLoadsRequest, context: "Context") -> pb.GetLoadsResponse:
        load = self._presence.load()
        page_size = self._presence.layout.page_size
        told = pb.SchedulerLoad(
            num_running_reqs=load.running_sequences,
            num_waiting_reqs=load.waiting_requests,
            num_total_reqs=load.running_sequences + load.waiting_requests,
            num_used_tokens=(load.pages.referenced + load.pages.promised) * page_size,
            max_total_num_tokens=load.pages.total * page_size,
            token_usage=_usage(load),
            gen_throughput=load.tokens_per_second,
            max_running_requests=load.max_sequences,
            num_waiting_uncached_tokens=load.waiting_tokens,
            utilization=load.running_sequences / load.max_sequences if load.max_sequences else 0.0,
        )
        now = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat()
        return pb.GetLoadsResponse(timestamp=now, version=PROTOCOL, dp_rank_count=1, loads=[told])

    async def GetTokenizer(
        self, request: common.GetTokenizerRequest, context: "Context"
    ) -> AsyncIterator[common.GetTokenizerChunk]:
        data = await self._tokenizer.archive()
        for start in range(0, len(data), CHUNK_BYTES):
            is_last = start + CHUNK_BYTES >= len(data)
            digest = hashlib.sha256(data).hexdigest() if is_last else ""
            yield common.GetTokenizerChunk(data=data[start : start + CHUNK_BYTES], sha256=digest)

    async def SubscribeKvEvents(
        self, request: common.SubscribeKvEventsRequest, context: "Context"
    ) -> AsyncIterator[common.KvEventBatch]:
        """Load records alone: our prefix hashes are keyed, and mean nothing to a gateway."""
        sample = 0
        while True:
            load = self._presence.load()
            record = common.EngineLoad(
                running_requests=load.running_sequences,
                waiting_requests=load.waiting_requests,
                waiting_uncached_tokens=load.waiting_tokens,
                token_usage=_usage(load),
                gen_throughput=load.tokens_per_second,
                max_running_requests=load.max_sequences,
                sample=sample,
                load_only=True,
            )
            yield common.KvEventBatch(load=record, timestamp=self._clock.wall())
            sample += 1
            await asyncio.sleep(BEAT_S)

    async def Embed(self, request: pb.EmbedRequest, context: "Context") -> pb.EmbedResponse:
        raise Unsupported(message="embeddings are not served")

    async def FlushCache(self, request: common.FlushCacheRequest, context: "Context") -> common.FlushCacheResponse:
        raise Unsupported(message="a gateway does not flush caches here")

    async def StartProfile(self, request: common.StartProfileRequest, context: "Context") -> common.ProfileResponse:
        raise Unsupported(message="profiling is not served")

    async def StopProfile(self, request: common.StopProfileRequest, context: "Context") -> common.ProfileResponse:
        raise Unsupported(message="profiling is not served")


class _Following:
    """One call's events as responses. Writer: the call."""

    def __init__(
        self,
        calls: Calls,
        sealer: Sealer,
        asked: Asked,
        work: Work,
        answers: dict[int, ChoiceAnswer],
        *,
        is_prefill: bool,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._sealer = sealer
        self._asked = asked
        self._work = work
        self._answers = answers
        self._is_prefill = is_prefill
        self._cached = 0 if asked.handover is None else asked.handover.cached_tokens
        self._scores: list[TokenLogprobs] = []
        self._ticket: Ticket | None = None
        self._is_read = False

    async def responses(self, inbox: Inbox) -> AsyncIterator[pb.GenerateResponse]:
        """Until every choice has ended; on prefill, until the ticket is there. Raises what the work failed with."""
        event: WorkEvent | None = None
        said_at = self._clock.monotonic()
        while not self._is_over:
            if self._is_prefill and self._clock.monotonic() >= said_at + PROGRESS_S:
                said_at = self._clock.monotonic()
                yield progress(self._asked)
            try:
                event = await inbox.next(PROGRESS_S)
            except TimeoutError:
                continue
            if event is None:
                self._calls.give_up(self._work.request)
                break
            for response in self._take(event):
                yield response
        if self._is_prefill or event is None:
            for answer in self._answers.values():
                if self._is_prefill or answer.finish is None:
                    yield self._complete(answer)

    @property
    def _is_over(self) -> bool:
        if self._is_prefill:  # the three come in any order
            return self._ticket is not None and self._is_read and all(each.tokens for each in self._answers.values())
        return all(answer.finish is not None for answer in self._answers.values())

    def _take(self, event: WorkEvent) -> list[pb.GenerateResponse]:
        if isinstance(event, WorkFailed):
            raise failure_of(event)
        if isinstance(event, PrefillDone):
            self._is_read = True
            if self._asked.handover is None:
                self._cached = event.cached_tokens
        elif isinstance(event, PromptScored):
            self._scores += event.logprobs
        elif isinstance(event, TicketIssued):
            self._ticket = event.ticket
        elif isinstance(event, TokensEmitted):
            return self._tokens(event)
        return []

    def _tokens(self, event: TokensEmitted) -> list[pb.GenerateResponse]:
        answer = self._answers[event.choice]
        news = answer.take(event)
        if news is None or self._is_prefill:
            return []
        told = [chunk(self._asked, answer, news, cached=self._cached)] if self._asked.streams else []
        if answer.finish is not None:
            told.append(self._complete(answer))
        if answer.stopped_by_text:
            is_last = self._is_over
            self._calls.give_up(self._work.request, None if is_last else answer.index)
        return told

    def _complete(self, answer: ChoiceAnswer) -> pb.GenerateResponse:
        params = None
        if self._ticket is not None:
            params = self._sealer.write(HandOver(ticket=self._ticket, cached_tokens=self._cached))
        return complete(self._asked, answer, self._scores, cached=self._cached, params=params)


def _usage(load: LoadReport) -> float:
    pages = load.pages
    return (pages.referenced + pages.promised) / pages.total if pages.total else 0.0
