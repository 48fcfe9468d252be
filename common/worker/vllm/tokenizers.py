"""The model's tokenizer, read when first a stop string or a gateway asks for it; and its files as one archive."""

import asyncio
import io
import zipfile
from pathlib import Path

from common.core.errors import Unsupported
from common.text.tokenizer import Tokenizer

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
)


class ModelTokenizer:
    """Writer: the event loop. `folder` empty: a model without text."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._loaded: Tokenizer | None = None

    async def load(self) -> Tokenizer:
        """Raises Unsupported where there is none."""
        self._require()
        if self._loaded is None:
            self._loaded = await asyncio.to_thread(Tokenizer.load, Path(self._folder))
        return self._loaded

    async def archive(self) -> bytes:
        """A zip of its files, the same bytes every time. Raises Unsupported where there is none."""
        self._require()
        return await asyncio.to_thread(_archive, Path(self._folder))

    def _require(self) -> None:
        if not self._folder:
            raise Unsupported(message="this worker's model has no tokenizer: no stop strings, no text")


def _archive(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            if (folder / name).is_file():
                archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
    return out.getvalue()
