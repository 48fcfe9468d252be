"""Where a folder keeps its chat template: a file of its own, or a field of tokenizer_config.json."""

import json
from pathlib import Path
from typing import Any

from common.core.errors import Reason, StartupError

FILE = "chat_template.jinja"
OLD_FILE = "chat_template.json"
"""What tools of an earlier year wrote beside it."""
DEFAULT, WITH_TOOLS = "default", "tool_use"
TOOLS_FILE = f"additional_chat_templates/{WITH_TOOLS}.jinja"
"""Where newer folders keep the one for conversations with tools, if it is another."""
MAX_FILE_BYTES = 1 << 20
"""Chosen: far above any template's own limit; more is something else."""


def read_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The template, None where there is none. The file goes first, as in the library it is made for.

    Of several by name the one called default. Raises StartupError naming the file and what is wrong.
    """
    if (folder / FILE).exists():
        return _read(folder / FILE)
    said = config.get("chat_template")
    if said is None and (folder / OLD_FILE).exists():
        try:
            said = json.loads(_read(folder / OLD_FILE))["chat_template"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _refuse(OLD_FILE, f"no chat_template in it: {error}") from error
    if isinstance(said, list):
        named = _named(said)
        said = named.get(DEFAULT)
        if said is None:
            raise _refuse("tokenizer_config.json", f"chat_template lists {sorted(named)}, none is {DEFAULT}")
    if said is not None and not isinstance(said, str):
        raise _refuse("tokenizer_config.json", "chat_template is neither a text nor a list of them")
    return said


def read_tool_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The one for conversations with tools, None where the usual one serves them too. Raises StartupError."""
    if (folder / FILE).exists() or (folder / TOOLS_FILE).exists():
        return _read(folder / TOOLS_FILE) if (folder / TOOLS_FILE).exists() else None
    said = config.get("chat_template")
    found = _named(said).get(WITH_TOOLS) if isinstance(said, list) else None
    if found is not None and not isinstance(found, str):
        raise _refuse("tokenizer_config.json", f"chat_template {WITH_TOOLS} is no text")
    return found


def _named(listed: list[Any]) -> dict[str, object]:
    return {str(each.get("name")): each.get("template") for each in listed if isinstance(each, dict)}


def _read(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise _refuse(path.name, f"{size} bytes, at most {MAX_FILE_BYTES}")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _refuse(path.name, f"cannot be read: {error}") from error


def _refuse(name: str, why: str) -> StartupError:
    return StartupError(message=f"{name}: {why}", reason=Reason.MODEL_LOAD_FAILED)
