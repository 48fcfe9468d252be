"""`baton bench compare`: Baton's ways against other projects' servers, alternated in one run."""

import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from common.core.errors import StartupError
from services.local.bench.bench import Lane, Wish
from services.local.bench.contender import Contender, PeerContender
from services.local.bench.http_target import ModelShape
from services.local.bench.peer import PeerSpec, Places, read_peers, running_peer, why_missing
from services.local.bench.ways import usable_cores
from services.local.janitor import Janitor

FIRST_PORT = 18_100


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    """Which peers, and where they are. `select` empty: every entry of the file."""

    file: Path
    venvs: Path
    gguf: Path | None
    select: tuple[str, ...] = ()


@asynccontextmanager
async def invited(guests: Guests, wish: Wish, lane: Lane) -> AsyncIterator[Sequence[Contender]]:
    """The peers that could be started, each paused; who is missing, and why, is said. Raises StartupError."""
    model = wish.model_folder().resolve()
    places = Places(here=guests.file.resolve().parent, venvs=guests.venvs.resolve(), model=model, gguf=guests.gguf)
    shape = _shape(model)
    threads = len(usable_cores())
    async with AsyncExitStack() as stack:
        janitor = await stack.enter_async_context(Janitor())
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="baton-bench-")))
        contenders: list[Contender] = []
        for number, spec in enumerate(_selected(guests)):
            missing = why_missing(spec, places)
            if missing is not None:
                lane.say(f"{spec.name} is missing: {missing}")
                continue
            lane.say(f"starting {spec.name}")
            started = running_peer(
                spec, places, port=FIRST_PORT + number, threads=threads, group=janitor.group, logs=logs
            )
            try:
                peer = await stack.enter_async_context(started)
            except StartupError as error:
                lane.say(f"{spec.name} is left out: {error.message}")
                continue
            peer.pause()
            contenders.append(PeerContender(peer, shape=shape, clock=lane.clock))
        yield contenders


def _selected(guests: Guests) -> list[PeerSpec]:
    """Raises StartupError for a name that the file does not have."""
    known = read_peers(guests.file)
    unknown = sorted(set(guests.select).difference(known))
    if unknown:
        raise StartupError(message=f"{guests.file.name} has no {', '.join(unknown)}: it has {', '.join(known)}")
    return [known[name] for name in guests.select or known]


def _shape(model: Path) -> ModelShape:
    """As the model folder says. Raises StartupError."""
    try:
        fields = json.loads((model / "config.json").read_text(encoding="utf-8"))
        return ModelShape(vocab_size=int(fields["vocab_size"]), max_context=int(fields["max_position_embeddings"]))
    except (OSError, ValueError, KeyError) as error:
        raise StartupError(message=f"{model} is no model folder: {error!r}") from error
