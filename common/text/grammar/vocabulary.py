"""A tokenizer's vocabulary as the grammar engine sees it: bytes per token, and which tokens are no text."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from llguidance import LLTokenizer

from common.core.ids import TokenId

if TYPE_CHECKING:  # the child that inspects constraints starts faster without it
    from common.text.tokenizer import Tokenizer

BYTES = 256


class _Spelled:
    """What llguidance asks of a tokenizer. Names and shapes are its own."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: Collection[int], eos: int, tokenizer: "Tokenizer | None") -> None:
        self.tokens = tokens
        self.special_token_ids = sorted(special)
        self.eos_token_id = eos
        self._tokenizer = tokenizer
        spelled = {spelling: token for token, spelling in enumerate(tokens) if spelling and token not in special}
        self._ids = spelled
        self._longest = max(map(len, spelled), default=1)

    def __call__(self, text: str | bytes) -> list[int]:
        """The usual tokens of a text that a grammar demands. Never others: what they spell is compared."""
        raw = text if isinstance(text, bytes) else text.encode(errors="replace")
        if self._tokenizer is not None:
            usual = self._tokenizer.encode(raw.decode(errors="replace"), add_special_tokens=False)
            if b"".join(self.tokens[token] for token in usual if token < len(self.tokens)) == raw:
                return list(usual)
        return self._greedy(raw)

    def _greedy(self, raw: bytes) -> list[int]:
        """The longest token each time. Ends early at a byte that no token begins with."""
        found: list[int] = []
        at = 0
        while at < len(raw):
            lengths = range(min(self._longest, len(raw) - at), 0, -1)
            token = next((self._ids[raw[at : at + size]] for size in lengths if raw[at : at + size] in self._ids), None)
            if token is None:
                break
            found.append(token)
            at += len(self.tokens[token])
        return found


def model_vocabulary(tokenizer: "Tokenizer", *, vocab_size: int, eos_ids: Collection[TokenId]) -> LLTokenizer:
    """Of a model with `vocab_size` logits. Takes half a second for 150,000 tokens.

    Tokens marked special spell nothing here: an answer never contains them, whatever their names look like.
    """
    hidden = tokenizer.control.hidden
    known = [
        b"" if token in hidden else tokenizer.token_bytes(TokenId(token))
        for token in range(min(vocab_size, tokenizer.vocab_size))
    ]
    known += [b""] * (vocab_size - len(known))
    named = tokenizer.control.ids.get(tokenizer.control.eos)
    ends = [int(token) for token in eos_ids if token < vocab_size]
    if not ends and named is not None and named < vocab_size:
        ends = [int(named)]
    if not ends:
        ends = [min((int(token) for token in hidden if token < vocab_size), default=vocab_size - 1)]
    special = {int(token) for token in hidden if token < vocab_size} | set(ends)
    spelled = [spelling or b"\xff<%d>" % token for token, spelling in enumerate(known)]
    special |= {token for token, spelling in enumerate(known) if not spelling}
    return LLTokenizer(_Spelled(spelled, special, ends[0], tokenizer), n_vocab=vocab_size, eos_token=ends)  # type: ignore[arg-type]  # duck-typed by design


def byte_vocabulary() -> LLTokenizer:
    """One token per byte, and an end: enough to tell whether a grammar can be satisfied."""
    tokens = [bytes([byte]) for byte in range(BYTES)] + [b"<end>"]
    return LLTokenizer(_Spelled(tokens, {BYTES}, BYTES, None), n_vocab=BYTES + 1, eos_token=[BYTES])  # type: ignore[arg-type]  # duck-typed by design
