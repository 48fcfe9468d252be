"""Goal: what our spans tell has the names that others look for, and the page about them knows every one."""

import re

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes

from tests.architecture.source import ROOT

SOURCES = ("services/router/story.py", "services/gateway/tracing.py", "common/observe/tracing/spans.py")
OURS = "baton."


def told() -> set[str]:
    """Every attribute that the code names."""
    text = "".join((ROOT / source).read_text() for source in SOURCES)
    return set(re.findall(r'"((?:gen_ai|http|error|baton)\.[a-z_.]+)"', text))


def test_names_are_those_of_opentelemetry_or_say_that_they_are_ours() -> None:
    modules = (gen_ai_attributes, error_attributes, http_attributes)
    agreed = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    assert len(told()) > 12
    assert {name for name in told() if not name.startswith(OURS)} <= agreed


def test_the_page_about_traces_names_every_attribute() -> None:
    page = (ROOT / "docs/tracing.md").read_text()
    assert not [name for name in sorted(told()) if f"`{name}`" not in page]
