"""Where a folder's tokenizer lies, and what is said of a folder that has none of the kind that is read."""

from pathlib import Path

from common.core.errors import Reason, StartupError

TOKENIZER_FILE = "tokenizer.json"
OTHER_FILES = ("tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")
"""Of SentencePiece, of Mistral, and of slower tokenizers."""


def find_tokenizer(folder: Path) -> Path:
    """Raises StartupError that names what lies there instead, and what to do."""
    path = folder / TOKENIZER_FILE
    if path.exists():
        return path
    others = [name for name in OTHER_FILES if (folder / name).exists()]
    if not others:
        raise refused(path, f"is missing in {folder.name}: copy it from where the model came from")
    write = f'AutoTokenizer.from_pretrained("{folder.name}").save_pretrained("{folder.name}")'
    raise refused(
        path, f"is missing in {folder.name}; {', '.join(others)} is not read. transformers can write it: {write}"
    )


def refused(path: Path, why: str) -> StartupError:
    """The error of everything that is wrong with a tokenizer's files."""
    return StartupError(message=f"{path.name}: {why}", reason=Reason.MODEL_LOAD_FAILED)
