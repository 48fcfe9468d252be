"""Goal: a prompt arrives as it was given, and what cannot be one is named."""

from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from protos.baton.v1 import generation_pb2
from services.local.prompt import parse_token_ids, put_prompt, read_prompt


def refusal(error: InvalidRequest) -> str:
    (violation,) = error.violations
    return f"{violation.field}: {violation.description}"


def test_a_file_is_read_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_bytes("é\r\n\n".encode())
    assert read_prompt(None, file) == "é\r\n\n"


def test_an_argument_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_prompt(b"\xff".decode("utf-8", "surrogateescape"), None)
    assert refusal(caught.value) == "prompt: the argument is not UTF-8"


def test_a_file_that_is_not_utf_8_or_not_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompt"
    file.write_bytes(b"ab\xff")
    with pytest.raises(InvalidRequest) as caught:
        read_prompt(None, file)
    assert refusal(caught.value).endswith("is not UTF-8: byte 2 cannot be decoded")
    with pytest.raises(InvalidRequest) as caught:
        read_prompt(None, tmp_path / "missing")
    assert refusal(caught.value).endswith("missing: No such file or directory")


def test_two_prompts_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        read_prompt("x", tmp_path / "prompt")


def test_token_ids_are_separated_by_commas_or_blanks() -> None:
    assert parse_token_ids(" 1,2, 3\n4294967295 ") == [1, 2, 3, 4294967295]


@pytest.mark.parametrize("text", ["1,a", "-1", "1.5", "4294967296", "²", "0x10"])
def test_what_is_no_token_id_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_token_ids(text)
    assert repr(text.rpartition(",")[2]) in refusal(caught.value)


def test_each_kind_of_prompt_has_its_field() -> None:
    request = generation_pb2.GenerateRequest()
    put_prompt(request, "hello", is_tokens=False, is_chat=True)
    assert [(message.role, message.content) for message in request.chat.messages] == [("user", "hello")]
    put_prompt(request, "1 2", is_tokens=True, is_chat=False)
    assert request.WhichOneof("prompt") == "token_ids"
    put_prompt(request, "1 2", is_tokens=False, is_chat=False)
    assert request.text == "1 2"
    with pytest.raises(InvalidRequest):
        put_prompt(request, "1", is_tokens=True, is_chat=True)
