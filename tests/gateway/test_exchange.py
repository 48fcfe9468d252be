"""What a request's headers say beside its body."""

import pytest
from starlette.datastructures import Headers

from common.core.errors import MalformedMessage
from services.gateway.exchange import number_header


@pytest.mark.parametrize(("text", "seconds"), [("0.5", 0.5), (" 30 ", 30.0), ("1e9", 1e9)])
def test_seconds_are_read_from_a_header(text: str, seconds: float) -> None:
    assert number_header(Headers({"baton-timeout-s": text}), "baton-timeout-s") == seconds
    assert number_header(Headers({}), "baton-timeout-s") is None


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "nan", "inf", "1e10"])
def test_who_writes_other_seconds_is_told_which_are_taken(text: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        number_header(Headers({"baton-timeout-s": text}), "baton-timeout-s")
    assert caught.value.message == "the header baton-timeout-s must be a positive number of seconds, at most 1000000000"
