"""`{% generation %}`: with it templates mark what the assistant says, for training. Here it changes nothing."""

from jinja2.ext import Extension
from jinja2.nodes import Scope
from jinja2.parser import Parser


class GenerationTag(Extension):
    """Its body as it is, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own spelling

    def parse(self, parser: Parser) -> Scope:
        """Called by jinja at the tag."""
        line = next(parser.stream).lineno
        return Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)
