"""What a damaged list of added tokens is answered with."""

from pathlib import Path

import pytest

from common.core.errors import StartupError
from common.text.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "listed",
    [
        '{"a": 1}',
        "5",
        "[7]",
        '[{"content": "a"}]',
        '[{"content": "", "id": 1, "special": true}]',
        '[{"content": "a", "id": -1, "special": true}]',
        '[{"content": "a", "id": true, "special": true}]',
    ],
)
def test_added_tokens_that_are_none_are_refused_by_name(listed: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(f'{{"added_tokens": {listed}}}')
    with pytest.raises(StartupError, match=r"tokenizer\.json: added_tokens"):
        Tokenizer.load(tmp_path)
