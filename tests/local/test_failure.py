"""An error on the terminal says everything, and nothing twice."""

import pytest

from common.core.errors import FieldViolation, InvalidRequest
from services.local.exits import Exit
from services.local.failure import fail


def test_a_field_that_the_message_tells_is_not_told_again(capfd: pytest.CaptureFixture[str]) -> None:
    violations = (FieldViolation(field="a", description="is wrong"), FieldViolation(field="b", description="as well"))
    assert fail(InvalidRequest(message="invalid: a: is wrong", violations=violations)).exit_code == Exit.USAGE
    assert capfd.readouterr().err.splitlines() == ["baton: invalid: a: is wrong", "  b: as well"]
