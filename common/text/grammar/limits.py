"""How large a constraint may be, and how much work the grammar engine may put into one."""

from llguidance import LLParserLimits

MAX_DEPTH = 32
"""Levels of brackets in a schema, a regex or a grammar. Chosen: three times the deepest schema of public collections;
nested far deeper, a parser's own stack is what ends."""

MAX_CHOICES = 1024
MAX_REPEATS = 8192
"""Of one part of a regex. Measured: counting to 100,000 takes 400 ms of one step."""


def parser_limits() -> LLParserLimits:
    """Chosen: no step of a grammar takes longer than 5 ms, and a schema of 500 optional fields passes."""
    return LLParserLimits(
        max_items_in_row=4_000,
        initial_lexer_fuel=500_000,
        step_lexer_fuel=50_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )
