"""How good a model folder is: loss on the held-out sources, and sample continuations to look at.

`python -m models.build.evaluate models/demo` prints both.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from models.build.batches import pack_sources
from models.build.corpus import Share, Source, read_sources
from models.build.folder import read_shape, read_weights
from models.build.manifest import HeldOutLoss
from models.build.network import LlamaNetwork
from models.build.tokenizer import BEGIN, END, control_id, encode_plain

SAMPLE_HEADERS = (
    "def read_json(path):\n",
    "class Stack:\n    def __init__(self):\n",
    "import os\n\ndef walk_files(root, suffix):\n",
)


def read_network(folder: Path) -> LlamaNetwork:
    """Load a folder's weights into the training network, fp32, ready to evaluate."""
    network = LlamaNetwork(read_shape(folder))
    network.load_state_dict({name: tensor.float() for name, tensor in read_weights(folder).items()})
    return network.eval()


@torch.inference_mode()
def held_out_loss(folder: Path, sources: list[Source], *, window: int = 2048) -> HeldOutLoss:
    """Loss over the held-out files in windows of `window` tokens; each window starts without context."""
    network = read_network(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    held_out = [source for source in sources if source.share is Share.HELD_OUT]
    packed = torch.from_numpy(pack_sources(tokenizer, held_out, Share.HELD_OUT).astype("int64"))
    losses = [network.loss(piece[None]) * (len(piece) - 1) for piece in _windows(packed, window)]
    total, num_bytes = float(torch.stack(losses).sum()), sum(len(source.text.encode()) for source in held_out)
    return HeldOutLoss(
        per_token=round(total / (len(packed) - 1), 4),
        per_byte=round(total / num_bytes, 4),
        tokens=len(packed) - 1,
        bytes=num_bytes,
        files=tuple(source.path for source in held_out),
    )


def _windows(packed: Tensor, window: int) -> list[Tensor]:
    """Pieces that overlap by one token, so that every token but the first is predicted once."""
    return [packed[start : start + window + 1] for start in range(0, len(packed) - 1, window)]


@torch.inference_mode()
def continue_text(folder: Path, header: str, *, tokens: int, temperature: float = 0.0, seed: int = 0) -> str:
    """Continue `header`; greedy at temperature 0. Recomputes the whole text per token: for short samples only."""
    network = read_network(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    generator = torch.Generator().manual_seed(seed)
    prompt = [control_id(tokenizer, BEGIN), *encode_plain(tokenizer, header)]
    ids = list(prompt)
    for _ in range(tokens):
        logits_V = network(torch.tensor([ids]))[0, -1]
        if temperature == 0.0:
            token = int(logits_V.argmax())
        else:
            odds_V = functional.softmax(logits_V / temperature, dim=-1)
            token = int(torch.multinomial(odds_V, 1, generator=generator))
        if token == control_id(tokenizer, END):
            break
        ids.append(token)
    text: str = tokenizer.decode(ids[len(prompt) :])
    return text


def main() -> None:
    """Print held-out loss and samples of the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.build.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=120, help="length of each sample (default 120)")
    parser.add_argument("--temperature", type=float, default=0.0)
    options = parser.parse_args()
    loss = held_out_loss(options.folder, read_sources(frozenset({Share.HELD_OUT})))
    print(f"held-out loss: {loss.per_token} nats per token, {loss.per_byte} nats per byte")
    print(f"over {loss.tokens} tokens of {len(loss.files)} files")
    for header in SAMPLE_HEADERS:
        print("-" * 40)
        print(header + continue_text(options.folder, header, tokens=options.tokens, temperature=options.temperature))


if __name__ == "__main__":
    main()
