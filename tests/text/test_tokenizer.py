"""Text to ids and back; what a client spells is never a control token."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.core.errors import Reason, StartupError
from common.core.ids import TokenId
from common.text.tokenizer import Tokenizer
from tests.text.vocabularies import DEMO, demo, demo_library, load_json, metaspace, metaspace_library

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
# Hypothesis draws words that stand in our sources too, and to the library a spelled control token is one.
plain_texts = texts.filter(lambda text: not any(word in text for word in demo().control.ids))
ids = st.lists(st.integers(0, demo().vocab_size + 10).map(TokenId), max_size=30).map(tuple)


@given(texts)
def test_text_survives_a_round_trip(text: str) -> None:
    tokens = demo().encode(text, add_special_tokens=False)
    assert demo().decode(tokens, skip_special_tokens=True) == text


@given(plain_texts)
def test_plain_text_gets_the_librarys_own_ids(text: str) -> None:
    assert list(demo().encode(text, add_special_tokens=True)) == demo_library().encode(text).ids


@given(ids)
def test_any_ids_decode_as_the_library_decodes_them(tokens: tuple[TokenId, ...]) -> None:
    for skip in (True, False):
        reference = demo_library().decode(list(tokens), skip_special_tokens=skip)
        assert demo().decode(tokens, skip_special_tokens=skip) == reference


@given(st.lists(st.sampled_from([*demo().control.ids, "<", "|", "end", " "]), max_size=6).map("".join))
def test_spelled_control_tokens_stay_text(text: str) -> None:
    tokens = demo().encode(text, add_special_tokens=False)
    assert not set(tokens) & set(demo().control.ids.values())
    assert demo().decode(tokens, skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["</s>", "a</s>b", "<think>", " <s> a", "ab <think></s>"])
def test_a_vocabulary_of_weighed_words_finds_no_control_token_in_a_text(text: str) -> None:
    described = json.loads(metaspace_library().to_str())
    words = described["model"]["vocab"] | {"<think>": len(described["model"]["vocab"])}
    described["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [[word, -float(len(word))] for word in words]}
    described["model"]["vocab"][words["</s>"]][1] = described["model"]["vocab"][words["<think>"]][1] = 0.0
    tokenizer = load_json(json.dumps(described), {})
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert not {*tokenizer.control.ids.values()} & {*tokens}
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text
    assert tokenizer.token_bytes(tokenizer.control.ids["<think>"]) == b"<think>"
    assert tokenizer.vocab_size == len(words)


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("text", ["</s>", "a</s>b", "<unk>", "<think>", "a<think>", "ab \u00fc <s>a"])
def test_merges_and_whole_words_make_no_control_token_of_a_text(text: str, ignores: bool) -> None:
    """SentencePiece vocabularies that were converted have merges for every piece, also for those that control."""
    described = json.loads(metaspace_library().to_str())
    model, size = described["model"], len(described["model"]["vocab"])
    described["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    described["added_tokens"].append(described["added_tokens"][0] | {"id": 0, "content": "<unk>"})
    described["added_tokens"].append(
        described["added_tokens"][0] | {"id": size + 5, "content": "\n\n", "special": False}
    )
    model["vocab"] |= dict(zip(["<think>", "</", "s>", "th", "x<s>"], range(size, size + 5), strict=True))
    model["merges"] += [["<", "/"], ["s", ">"], ["</", "s>"], ["<", "s>"], ["x", "<s>"], ["a", "b"]]
    if ignores:
        model["ignore_merges"], model["merges"] = True, list(map(" ".join, model["merges"]))  # their older form
    tokenizer = load_json(json.dumps(described), {"eos_token": "</s>"})
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert not {*tokenizer.control.ids.values()} & {*tokens}
    assert b"".join(map(tokenizer.token_bytes, tokens)).decode() == text
    assert tokenizer.encode("ab\n\n", add_special_tokens=False) == (model["vocab"]["ab"], size + 5)
    assert tokenizer.token_bytes(tokenizer.control.ids["</s>"]) == b"</s>"
    assert tokenizer.vocab_size == size + 6


def test_a_vocabulary_of_whole_words_finds_no_control_token_in_a_text() -> None:
    described = json.loads(metaspace_library().to_str())
    described["normalizer"], described["pre_tokenizer"] = None, {"type": "WhitespaceSplit"}
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
    described["model"] = {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}
    described["added_tokens"] = [item for item in described["added_tokens"] if item["content"] in words]
    tokenizer = load_json(json.dumps(described), {"eos_token": "</s>"})
    assert tokenizer.encode("a </s> a <s>", add_special_tokens=False) == (3, 0, 3, 0)
    assert tokenizer.token_bytes(tokenizer.control.ids["</s>"]) == b"</s>"
    assert tokenizer.vocab_size == 4


def test_merges_that_chance_would_leave_out_are_made() -> None:
    described = json.loads(metaspace_library().to_str())
    described["model"]["dropout"] = 0.9
    tokenizer = load_json(json.dumps(described), {})
    assert tokenizer.had_dropout
    assert not metaspace().had_dropout
    assert {tokenizer.encode("abababab", add_special_tokens=False) for _ in range(20)} == {
        metaspace().encode("abababab", add_special_tokens=False)
    }


def test_a_mark_that_is_added_but_not_special_is_control_too_and_is_shown() -> None:
    tokenizer = metaspace()
    think = tokenizer.control.ids["<think>"]
    assert think not in tokenizer.encode("a<think>b", add_special_tokens=False)
    assert think in metaspace_library().encode("a<think>b").ids
    assert tokenizer.decode((think,), skip_special_tokens=True) == "<think>"


@pytest.mark.parametrize(
    "config",
    [
        {"pad_token": "<think>"},
        {"audio_token": {"content": "<think>"}},
        {"added_tokens_decoder": {"0": {"content": "<think>", "special": True}, "1": 3}},
    ],
)
def test_a_token_with_a_name_is_hidden_as_a_special_one_is(config: dict[str, Any]) -> None:
    tokenizer = load_json(metaspace_library().to_str(), config)
    assert tokenizer.decode((tokenizer.control.ids["<think>"],), skip_special_tokens=True) == ""
    assert tokenizer.decode((tokenizer.control.ids["<think>"],), skip_special_tokens=False) == "<think>"


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_a_mark_with_a_name_controls_though_it_is_listed_among_the_words_alone(kind: str) -> None:
    described = json.loads(metaspace_library().to_str())
    words = described["model"]["vocab"]
    described["added_tokens"] = None
    if kind == "Unigram":
        described["model"] = {"type": kind, "unk_id": 0, "vocab": [[word, -1.0] for word in words]}
    tokenizer = load_json(json.dumps(described), {"eos_token": "</s>", "pad_token": "a", "unk_token": "[no]"})
    assert tokenizer.control.ids == {"</s>": words["</s>"]}
    assert words["</s>"] not in tokenizer.encode("a</s>b", add_special_tokens=False)
    assert tokenizer.decode((words["</s>"], words["a"]), skip_special_tokens=True) == "a"


def test_the_first_token_is_the_post_processors_to_give() -> None:
    begin = demo().control.ids[demo().control.bos]
    assert demo().encode("x", add_special_tokens=True)[0] == begin
    assert begin not in demo().encode("x", add_special_tokens=False)


def test_a_decoder_that_never_put_a_space_before_the_text_takes_none_away() -> None:
    described = json.loads(metaspace_library().to_str())
    described["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    described["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False}
    tokenizer = load_json(json.dumps(described), {})
    assert tokenizer.decode(tokenizer.encode(" ab", add_special_tokens=False), skip_special_tokens=True) == " ab"


@pytest.mark.parametrize("text", ["ab a", "zebra ab", "\u00e9\u4e2d", "\u00fc \U0001f680", ""])
def test_metaspace_vocabularies_spell_bytes_and_spaces(text: str) -> None:
    tokens = metaspace().encode(text, add_special_tokens=False)
    assert metaspace().decode(tokens, skip_special_tokens=True) == text
    assert metaspace_library().decode(list(tokens)) == text


@pytest.mark.parametrize("token", [-1, 10**9, 1 << 31])
def test_an_id_without_spelling_adds_nothing(token: int) -> None:
    assert demo().token_bytes(TokenId(token)) == b""
    assert demo().decode((TokenId(token),), skip_special_tokens=False) == ""


def test_names_of_first_and_last_token_may_be_objects() -> None:
    assert (metaspace().control.bos, metaspace().control.eos) == ("<s>", "</s>")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ("{}", "byte-level|not a tokenizer"),
        ('{"decoder": {"type": "WordPiece"}}', "byte-level|not a tokenizer"),
    ],
)
def test_a_damaged_file_is_refused_by_name(content: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(StartupError, match=why) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.reason is Reason.MODEL_LOAD_FAILED
    assert "tokenizer.json" in caught.value.message


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_truncation_left_in_the_file_does_not_shorten_prompts() -> None:
    described = json.loads((DEMO / "tokenizer.json").read_text())
    described["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokenizer = load_json(json.dumps(described), {})
    assert len(tokenizer.encode("a b c d e f g h i j k", add_special_tokens=False)) > 4


def test_a_long_text_does_not_hold_up_other_threads() -> None:
    """The event loop of a router lives next to the thread that reads a megabyte. Judged against the reading's time,
    both by the reader's processor time: a machine that stands still holds up nobody."""
    over = threading.Event()
    pauses: list[float] = []
    reader = time.pthread_getcpuclockid(threading.get_ident())

    def beat() -> None:
        last = time.clock_gettime(reader)
        while not over.is_set():
            over.wait(0.001)
            pauses.append(time.clock_gettime(reader) - last)
            last = time.clock_gettime(reader)

    demo().encode("a", add_special_tokens=False)
    beating = threading.Thread(target=beat)
    beating.start()
    began = time.thread_time()
    demo().encode(" " * (1 << 20), add_special_tokens=False)
    took = time.thread_time() - began
    over.set()
    beating.join(60.0)
    print(f"read in {took:.3f} s, longest pause of another thread {max(pauses):.3f} s")
    assert max(pauses) < took / 2
