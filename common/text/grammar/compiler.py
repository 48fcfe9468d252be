"""Compiles constraints for one vocabulary, and keeps what was compiled last."""

from collections import OrderedDict

from llguidance import LLMatcher, LLTokenizer

from common.core.constraint import Constraint
from common.core.errors import InternalError
from common.core.ids import TokenId
from common.text.grammar.limits import parser_limits
from common.text.grammar.rule import GrammarRule
from common.text.grammar.source import compiled_source
from common.text.grammar.trouble import ConstraintTrouble, first_line

MAX_KEPT = 64
MAX_KEPT_BYTES = 1 << 20
"""Of source text. Chosen: a service uses a few schemas; a compiled one takes some hundred times its source at most."""

WALK_TOKENS = 64
WALK_STRIDE = 1_103_515_245
"""Of a common generator of numbers: the walk is the same every time."""


class Compiler:
    """Blocking. Owner: whoever runs it on one thread, and nowhere else."""

    def __init__(self, vocabulary: LLTokenizer) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[Constraint, LLMatcher] = OrderedDict()
        self._kept_bytes = 0

    @property
    def num_kept(self) -> int:
        return len(self._kept)

    def rule(self, constraint: Constraint) -> GrammarRule:
        """The state before the first token, its mask computed. Raises ConstraintTrouble."""
        matcher = self._kept.get(constraint)
        if matcher is None:
            matcher = self._compile(constraint)
            self._keep(constraint, matcher)
        self._kept.move_to_end(constraint)
        return GrammarRule(matcher.deep_copy(), matcher.compute_bitmask())

    def _compile(self, constraint: Constraint) -> LLMatcher:
        matcher = LLMatcher(self._vocabulary, compiled_source(constraint), log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise ConstraintTrouble(first_line(matcher.get_error()))
        mask = matcher.compute_bitmask()
        if matcher.is_error() or not any(mask):
            raise ConstraintTrouble("nothing satisfies it")
        return matcher

    def walk(self, constraint: Constraint) -> None:
        """Compile it and write a little with it, so that one too complex to go on shows. Raises ConstraintTrouble."""
        rule = self.rule(constraint)
        number = 1
        for _ in range(WALK_TOKENS):
            if rule.is_over:
                return
            try:
                mask = rule.mask()
            except InternalError as error:
                raise ConstraintTrouble("is too complex") from error
            allowed = [TokenId(token) for token in range(len(mask) * 8) if mask[token // 8] >> token % 8 & 1]
            number = (number * WALK_STRIDE + 1) % (1 << 31)
            if not rule.accept(allowed[number % len(allowed)]):
                raise ConstraintTrouble("is too complex")

    def _keep(self, constraint: Constraint, matcher: LLMatcher) -> None:
        self._kept[constraint] = matcher
        self._kept_bytes += constraint.num_bytes
        while len(self._kept) > 1 and (len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES):
            oldest, _matcher = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.num_bytes
