"""From what a client asked to what the router serves: checked, tokenized, every default resolved."""

from common.config.sections.router import RouterSection
from common.core.clock import Clock
from common.core.entropy import Entropy, mint_name
from common.core.ids import RequestId, TenantId, TokenId
from common.core.request import TokenSampling
from common.kv.hashing import scope_key
from common.text.conversation import Conversation
from common.transfer.offload import Offload
from services.router.asked import Asked, AskedSampling
from services.router.constraints import Constraints
from services.router.language import Language
from services.router.ranges import MAX_OUTPUT_TOKENS
from services.router.request import Request, TextRules, mint_choices
from services.router.validate import PRIORITIES, ModelFacts, check, check_ids, check_length, check_scores

INLINE_CHARS = 4096
"""Chosen: under a millisecond of tokenizing. Longer text is tokenized off the event loop."""

TURN_CHARS = 64
"""Chosen: what rendering one chat message, or another short text, costs, in characters of tokenizing."""

DEFAULT_TENANT = TenantId("default")


class Intake:
    """Stateless between requests. `secret` keys the scopes of prefix hashes: the same on every router of a cluster."""

    def __init__(
        self,
        *,
        model: ModelFacts,
        limits: RouterSection,
        language: Language,
        secret: bytes,
        clock: Clock,
        entropy: Entropy,
        offload: Offload,
        constraints: Constraints,
    ) -> None:
        self.model = model
        self._constraints = constraints
        self._limits = limits
        self._language = language
        self._secret = secret
        self._clock = clock
        self._entropy = entropy
        self._offload = offload

    def name(self, asked: Asked) -> RequestId:
        """The client's own id, or a minted one."""
        return RequestId(asked.request_id or mint_name(self._entropy, "req"))

    async def read(self, asked: Asked, *, name: RequestId, received: float, deadline: float) -> Request:
        """Raises InvalidRequest with every violation, ContextLengthExceeded, or NotFound for another model."""
        check(asked, model=self.model, limits=self._limits)
        constraint = await self._constraints.check(asked)
        prompt = await self._tokens(asked)
        if asked.token_ids is None:  # a tokenizer may know tokens that the model does not have
            check_ids("prompt", prompt, self.model)
        check_length(len(prompt), asked.sampling.max_tokens, model=self.model, limits=self._limits)
        check_scores(len(prompt), asked.sampling.prompt_logprobs)
        bad_words = await self._bad_words(asked.sampling)
        seed = asked.sampling.seed
        return Request(
            id=name,
            prompt=prompt,
            sampling=self._sampling(asked.sampling, len(prompt), bad_words),
            choices=mint_choices(self._entropy.bits(64) if seed is None else seed, asked.sampling.n or 1),
            text=TextRules(
                stops=asked.sampling.stop,
                keep_stop=asked.sampling.include_stop_str_in_output,
                skip_special=asked.sampling.skip_special_tokens,
                stream_interval=asked.sampling.stream_interval or 1,
                return_token_ids=asked.return_token_ids,
            ),
            priority=PRIORITIES[asked.priority],
            tenant=TenantId(asked.tenant or DEFAULT_TENANT),
            cache_scope=scope_key(asked.tenant or DEFAULT_TENANT, asked.cache_salt, self._secret),
            received=received,
            deadline=deadline,
            echo=await self._echo(asked, prompt) if asked.echo else None,
            is_resumable=asked.resumable,
            constraint=constraint,
        )

    async def tokenize(self, text: str, *, add_special: bool) -> tuple[TokenId, ...]:
        if len(text) <= INLINE_CHARS:
            return self._language.encode(text, add_special=add_special)
        return await self._offload.run(lambda: self._language.encode(text, add_special=add_special))

    async def tokenize_chat(self, talk: Conversation) -> tuple[TokenId, ...]:
        if talk.num_chars + TURN_CHARS * len(talk.messages) <= INLINE_CHARS:
            return self._language.encode_chat(talk)
        return await self._offload.run(lambda: self._language.encode_chat(talk))

    async def detokenize(self, tokens: tuple[TokenId, ...], *, skip_special: bool) -> str:
        if len(tokens) <= INLINE_CHARS:
            return self._language.decode(tokens, skip_special=skip_special)
        return await self._offload.run(lambda: self._language.decode(tokens, skip_special=skip_special))

    async def _tokens(self, asked: Asked) -> tuple[TokenId, ...]:
        if asked.token_ids is not None:
            return tuple(map(TokenId, asked.token_ids))
        if asked.chat is not None:
            return await self.tokenize_chat(asked.chat)
        return await self.tokenize(asked.text or "", add_special=True)

    async def _echo(self, asked: Asked, prompt: tuple[TokenId, ...]) -> str:
        """The prompt as text: the client's own, or what the ids and the chat template spell."""
        if asked.text is not None:
            return asked.text
        return await self.detokenize(prompt, skip_special=asked.sampling.skip_special_tokens)

    async def _bad_words(self, wanted: AskedSampling) -> tuple[tuple[TokenId, ...], ...]:
        """Ids of what may not be written: what the model's authors say, and what the client does.

        A word is banned at the beginning of a text and after a space.
        """
        texts = [text for word in wanted.bad_words for text in (word, f" {word.lstrip()}")]

        def spelled() -> list[tuple[TokenId, ...]]:
            return [self._language.encode(text, add_special=False) for text in texts]

        is_short = sum(TURN_CHARS + len(text) for text in texts) <= INLINE_CHARS
        words = spelled() if is_short else await self._offload.run(spelled)
        ids = (tuple(map(TokenId, each)) for each in wanted.bad_token_sequences)
        return tuple(word for word in dict.fromkeys((*self.model.bans, *ids, *words)) if word)

    def _sampling(
        self, wanted: AskedSampling, num_prompt: int, bad_words: tuple[tuple[TokenId, ...], ...]
    ) -> TokenSampling:
        model = self.model
        room = model.context_length - num_prompt
        min_tokens = min(wanted.min_tokens or 0, room)
        usual = min(self._limits.default_max_tokens, MAX_OUTPUT_TOKENS // (wanted.n or 1))
        max_tokens = wanted.max_tokens or min(max(usual, min_tokens), room)
        top_k = model.top_k if wanted.top_k is None else wanted.top_k
        return TokenSampling(
            temperature=model.temperature if wanted.temperature is None else wanted.temperature,
            top_p=model.top_p if wanted.top_p is None else wanted.top_p,
            top_k=0 if top_k >= model.vocab_size else top_k,
            max_tokens=max_tokens,
            min_tokens=min_tokens,
            stop_token_ids=tuple(map(TokenId, wanted.stop_token_ids)),
            ignore_eos=wanted.ignore_eos,
            min_p=model.min_p if wanted.min_p is None else wanted.min_p,
            repetition_penalty=model.repetition_penalty
            if wanted.repetition_penalty is None
            else wanted.repetition_penalty,
            frequency_penalty=wanted.frequency_penalty or 0.0,
            presence_penalty=wanted.presence_penalty or 0.0,
            logit_bias=tuple((TokenId(token), bias) for token, bias in sorted(wanted.logit_bias.items()) if bias),
            allowed_ids=tuple(map(TokenId, sorted(set(wanted.allowed_token_ids)))),
            bad_words=bad_words,
            logprobs=_fitting(wanted.logprobs, model),
            prompt_logprobs=_fitting(wanted.prompt_logprobs, model),
        )


def _fitting(num_top: int | None, model: ModelFacts) -> int | None:
    """There are no more likeliest tokens than tokens."""
    return None if num_top is None else min(num_top, model.vocab_size)
