"""Byte-level BPE tokenizers, their control tokens and the chat template, written as Hugging Face files."""

import itertools
import json
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
CONTROL_TOKENS = (BEGIN, END, PAD, SYSTEM, USER, ASSISTANT)  # ids 0 to 5, in this order

# A word may take one leading mark with it ("(self", ".join", "_path", " for"); digits go by threes; a run of
# white space keeps newline and indentation together, which is where Python text saves most.
WORD_PATTERN = r"[^\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Every turn ends with the end token. A role that is not known is treated as the user, never spelled into a token.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}<|system|>"
    "{% elif message['role'] == 'assistant' %}<|assistant|>"
    "{% else %}<|user|>{% endif %}"
    "{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], *, vocab: int) -> Tokenizer:
    """Learn merges from `texts` until the vocabulary, control tokens included, has `vocab` entries."""
    tokenizer = _assembled(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = _begin_first(tokenizer)
    return tokenizer


def synthetic_tokenizer(*, vocab: int) -> Tokenizer:
    """A tokenizer of any size without training: bytes, then pairs of letters, then pairs of those pairs.

    Every id is reachable from some text and every text has ids. Raises ValueError for a size that cannot be met.
    """
    letters = string.ascii_lowercase
    pairs = ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    merges = [(pair[0], pair[1]) for pair in pairs]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    num_merges = vocab - len(CONTROL_TOKENS) - len(alphabet)
    if not 0 <= num_merges <= len(pairs) + len(pairs) ** 2:
        raise ValueError(f"no synthetic tokenizer has {vocab} entries; at least {vocab - num_merges} are needed")
    merges += itertools.islice(itertools.product(pairs, pairs), max(0, num_merges - len(merges)))
    merges = merges[:num_merges]
    entries = [*CONTROL_TOKENS, *alphabet, *("".join(merge) for merge in merges)]
    tokenizer = _assembled(models.BPE({entry: index for index, entry in enumerate(entries)}, merges))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.post_processor = _begin_first(tokenizer)
    return tokenizer


def _assembled(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _begin_first(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    begin = (BEGIN, control_id(tokenizer, BEGIN))
    return processors.TemplateProcessing(single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[begin])


def encode_plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of text that nobody vouches for: what looks like a control token is spelled out byte by byte."""
    tokenizer.encode_special_tokens = True
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def control_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a control token; a tokenizer without it was not made by this room."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no control token {token!r}")
    return int(found)


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_positions: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json into `folder`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        **names,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    special = names | {"additional_special_tokens": [SYSTEM, USER, ASSISTANT]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
