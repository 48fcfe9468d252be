"""Constraints, compiled for real vocabularies: whatever the mask lets come, the answer is what was asked for."""

import json
import random
import re
from functools import cache

import pytest

from common.core.constraint import Constraint, ConstraintKind
from common.core.ids import TokenId
from common.text.grammar.compiler import MAX_KEPT, Compiler
from common.text.grammar.rule import GrammarRule
from common.text.grammar.trouble import ConstraintTrouble
from common.text.grammar.vocabulary import byte_vocabulary, model_vocabulary
from common.text.tokenizer import Tokenizer
from tests.text.vocabularies import demo, metaspace

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "bb", "c\u00e9"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TOKENIZERS = {"byte level": demo, "metaspace": metaspace}


@cache
def compiler(family: str) -> Compiler:
    tokenizer = TOKENIZERS[family]()
    eos = tokenizer.control.ids[tokenizer.control.eos]
    # Wider than the tokenizer, as padded models are.
    return Compiler(model_vocabulary(tokenizer, vocab_size=tokenizer.vocab_size + 7, eos_ids=(eos,)))


def constraint(kind: str, source: str = "", after: str = "") -> Constraint:
    return Constraint(kind=ConstraintKind(kind), source=source, after=after)


def allowed(rule: GrammarRule) -> list[TokenId]:
    bits = int.from_bytes(rule.mask(), "little")
    return [TokenId(token) for token in range(bits.bit_length()) if bits >> token & 1]


def write(rule: GrammarRule, seed: int, limit: int = 400) -> list[TokenId]:
    """A random answer: every token that may come is as likely."""
    chance, tokens = random.Random(seed), []
    while not rule.is_over and len(tokens) < limit:
        token = chance.choice(allowed(rule))
        assert rule.accept(token)
        tokens.append(token)
    return tokens


def text_of(tokenizer: Tokenizer, tokens: list[TokenId]) -> str:
    return b"".join(tokenizer.token_bytes(token) for token in tokens if token not in tokenizer.control.hidden).decode()


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"type": "string", "format": "int64"}, '"5"', "5"),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, str(2**53), str(2**63)),
        ({"type": "number", "minimum": -1e308, "maximum": 1e308}, "-1234.5", "1e999"),
        ({"type": "string", "format": "uuid"}, '"123e4567-e89b-12d3-a456-426614174000"', '"no"'),
        ({"type": "number", "exclusiveMinimum": -1}, "-0.5", "-1.5"),
        ({"$ref": "#one", "$defs": {"x": {"$anchor": "one", "const": 1}}}, "1", "2"),
    ],
)
def test_schemas_as_libraries_write_them_are_kept(schema: object, fits: str, fails: str) -> None:
    for text, is_fine in ((fits, True), (fails, False)):
        rule = Compiler(byte_vocabulary()).rule(constraint("json_schema", json.dumps(schema)))
        assert all(rule.accept(TokenId(byte)) for byte in text.encode()) is is_fine, text


@pytest.mark.parametrize(
    ("schema", "zero"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "0"),
        ({"type": "number", "allOf": [{"exclusiveMaximum": 0}, {"minimum": -0.5}]}, "-0"),
    ],
)
def test_zero_is_not_beside_itself(schema: object, zero: str) -> None:
    """The engine would let a range within 1 begin with the zero that it excludes."""
    rule = Compiler(byte_vocabulary()).rule(constraint("json_schema", json.dumps(schema)))
    assert all(rule.accept(TokenId(byte)) for byte in zero.encode())
    assert [chr(token) for token in allowed(rule)] == ["."]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"pattern": "^(?=a)b"}, "regex parse error: look-around, .* not supported"),
        ({"pattern": "["}, "regex parse error: unclosed character class"),
        (
            {"oneOf": [{"type": "number"}, {"type": "integer"}]},
            "oneOf: more than one of its branches may hold: use anyOf",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(schema: object, why: str) -> None:
    with pytest.raises(ConstraintTrouble, match=why):
        Compiler(byte_vocabulary()).rule(constraint("json_schema", json.dumps(schema)))


def test_a_bound_that_would_be_another_one_is_refused() -> None:
    with pytest.raises(ConstraintTrouble, match=r"minimum: 1000000000000000000000000000000 is beyond 2\^53"):
        compiler("metaspace").rule(constraint("json_schema", json.dumps({"minimum": 10**30})))


@pytest.mark.parametrize("family", TOKENIZERS)
def test_random_answers_satisfy_the_schema(family: str) -> None:
    """Goal: no mask is too wide. Method: 30 random walks per vocabulary, each parsed and checked by hand."""
    for seed in range(30):
        rule = compiler(family).rule(constraint("json_schema", json.dumps(SCHEMA)))
        answer = json.loads(text_of(TOKENIZERS[family](), write(rule, seed)))
        assert list(answer) == ["name", "age", "tags"], f"seed {seed}"
        assert len(answer["name"]) <= 12
        assert 0 <= answer["age"] <= 120
        assert set(answer["tags"]) <= {"a", "bb", "c\u00e9"}
        assert len(answer["tags"]) <= 3


@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize(
    ("kind", "source", "pattern"),
    [
        ("regex", "[a-c]{2,5}x?", r"[a-c]{2,5}x?"),
        ("regex", "^(ab|a/b)$", r"ab|a/b"),
        ("choice", '["yes", "no \\"x\\""]', r'yes|no "x"'),
        ("grammar", 'start: "a" b+\nb: /[xy]/ "."', r"a([xy]\.)+"),
    ],
)
def test_random_answers_match(family: str, kind: str, source: str, pattern: str) -> None:
    for seed in range(20):
        rule = compiler(family).rule(constraint(kind, source))
        text = text_of(TOKENIZERS[family](), write(rule, seed, limit=2000))
        assert re.fullmatch(pattern, text), f"seed {seed}: {text!r}"


def test_nothing_is_forbidden_that_matches() -> None:
    """Goal: no mask is too narrow. Method: the usual tokens of valid answers are accepted, and then it may end."""
    for text in ('{"name": "x", "age": 7, "tags": []}', '{"name":"","age":120,"tags":["a","bb"]}'):
        rule = compiler("byte level").rule(constraint("json_schema", json.dumps(SCHEMA)))
        for token in demo().encode(text, add_special_tokens=False):
            assert rule.mask()[token // 8] >> token % 8 & 1, text
            assert rule.accept(token)
        assert rule.is_over


def test_a_rule_is_over_with_its_last_token_or_the_end() -> None:
    eos = TokenId(1)
    rule = compiler("byte level").rule(constraint("regex", "ab*"))
    for token in demo().encode("a", add_special_tokens=False):
        assert rule.accept(token)
    assert eos in allowed(rule)
    assert not rule.is_over
    longer = rule.fork()
    assert rule.accept(eos)
    assert rule.is_over
    assert longer.accept(demo().encode("b", add_special_tokens=False)[0])
    assert not longer.is_over


def test_forks_go_their_own_ways() -> None:
    """Replay equality as well: a rule that accepted the same tokens allows the same."""
    one = constraint("json_schema", json.dumps(SCHEMA))
    first = compiler("byte level").rule(one)
    begun = write(first, 3, limit=5)
    twins = [first.fork(), first.fork()]
    ways = [write(twin, seed, limit=9) for seed, twin in enumerate(twins)]
    assert ways[0] != ways[1]
    for twin, way in zip(twins, ways, strict=True):
        replayed = compiler("byte level").rule(one)
        assert all(replayed.accept(token) for token in begun + way)
        assert replayed.mask() == twin.mask()


def test_control_tokens_never_come() -> None:
    rule = compiler("byte level").rule(constraint("regex", r"[^x]{3}"))
    assert not demo().control.hidden & set(allowed(rule))


def test_a_refused_token_ends_the_rule() -> None:
    rule = compiler("byte level").rule(constraint("choice", '["yes"]'))
    assert not rule.accept(demo().encode("no", add_special_tokens=False)[0])
    assert not rule.is_over


def test_a_thought_may_come_first() -> None:
    rule = compiler("byte level").rule(constraint("choice", '["yes"]', after="</think>"))
    for token in demo().encode("well, {no}</think>\nyes", add_special_tokens=False):
        assert rule.accept(token)
    assert rule.is_over


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "(a+)+$"),
        ("regex", "foo**"),
        ("regex", "(?=x)"),
        ("regex", r"(a)\1"),
        ("regex", r"[^\s\S]"),
        ("regex", "a{100000}"),
        ("regex", "("),
        ("regex", ""),
        ("regex", "a\\"),
        ("json_schema", "[" * 1000),
        ("json_schema", "not json"),
        ("json_schema", "1"),
        ("json_schema", "false"),
        ("json_schema", '{"a": NaN}'),
        ("json_schema", '{"type": "object", "properties": {"k": {"$ref": "#"}}, "required": ["k"]}'),
        ("json_schema", '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}'),
        ("json_schema", '{"$ref": "https://example.com/x"}'),
        ("json_schema", '{"type": "string", "minLength": 5, "maxLength": 3}'),
        ("json_schema", '{"allOf": [{"type": "string"}, {"type": "integer"}]}'),
        ("choice", "[]"),
        ("choice", '[""]'),
        ("grammar", "start: nobody"),
        ("grammar", "start: start"),
        ("grammar", "start: <|user|>"),
        ("grammar", "start: " + "(" * 40 + '"a"' + ")" * 40),
    ],
)
def test_what_cannot_be_satisfied_is_refused(kind: str, source: str) -> None:
    with pytest.raises(ConstraintTrouble) as caught:
        compiler("byte level").walk(constraint(kind, source))
    assert "\n" not in caught.value.why


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", r"(\w+\s)+"),
        ("regex", r"(a{2})+|(?:b?c)*"),
        ("regex", r"^\d{3}-\d{4}$"),
        ("regex", r"[*+?{}]+\*\+"),
        ("json_schema", '{"type": "object", "properties": {"k": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}'),
        ("json_schema", "true"),
        ("json_object", ""),
    ],
)
def test_what_can_be_satisfied_is_not_refused(kind: str, source: str) -> None:
    compiler("byte level").walk(constraint(kind, source))


def test_what_is_kept_is_bounded() -> None:
    one = Compiler(model_vocabulary(demo(), vocab_size=demo().vocab_size, eos_ids=(TokenId(1),)))
    for number in range(MAX_KEPT + 5):
        one.rule(constraint("choice", json.dumps([f"x{number}"])))
    assert one.num_kept == MAX_KEPT
