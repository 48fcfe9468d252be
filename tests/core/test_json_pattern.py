"""Patterns that are ECMAScript to one reader and something else to another are refused; all others pass."""

import pytest

from common.core.json_pattern import check_pattern
from common.core.json_schema import settled


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("^[[:alpha:]]+$", "[[:alpha:]"),
        ("^[a-z&&[^b]]+$", "[a-z&&[^b]"),
        ("x[a-z--b]", "[a-z--b]"),
        ("[^~~]", "[^~~]"),
        ("[]a]", "[]a]"),
        (r"\\[[a]", "[[a]"),
    ],
)
def test_classes_that_mean_different_things_are_refused(pattern: str, part: str) -> None:
    with pytest.raises(ValueError, match="means different things") as trouble:
        settled({"patternProperties": {"a": {"pattern": pattern}}})
    assert f" in {part} " in str(trouble.value)
    with pytest.raises(ValueError, match="means different things"):
        settled({"patternProperties": {pattern: True}})


@pytest.mark.parametrize(
    "pattern", [r"^[\w.+-]+@[a-z]$", r"[\[\]&~-]", r"\[[a]", "a&&b--c~~", r"^[^\]\\]$", "[a-z][&][&]", ""]
)
def test_what_every_reader_reads_alike_passes(pattern: str) -> None:
    check_pattern(pattern)
