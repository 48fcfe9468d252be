"""Train the demo model: `python -m models.build.train` takes an hour on two idle cores.

`--minutes` gives the budget in wall time; `--steps` gives it in steps, and then the same seed, machine class and
thread count repeat the run. Snapshots go to `--snapshots` while it runs; `--out` is written at the end.
"""

import argparse
import platform
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from models.build.batches import Mixture, mix
from models.build.corpus import Share, read_sources, read_tasks
from models.build.evaluate import held_out_loss
from models.build.folder import read_weights, write_description, write_weights
from models.build.manifest import Origin, Training, write_manifest
from models.build.network import LlamaNetwork
from models.build.optimizer import Optimizer
from models.build.schedule import TOKENS_PER_STEP, learning_rate_factor, window_length
from models.build.shape import NAMED_SHAPES, WeightType
from models.build.tokenizer import train_tokenizer

DEMO_FOLDER = Path(__file__).parents[1] / "demo"
# A GPU is an estimate: it should do a CPU hour's 3,000 steps or more in this time.
DEFAULT_MINUTES = {"cpu": 60.0, "cuda": 6.0}
REPORT_STEPS = 20
RAMP_STEPS = 30
SNAPSHOT_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When to stop: after some seconds or after some steps, whichever was asked for.

    A run that goes on from a snapshot starts at the progress which that had reached.
    """

    seconds: float
    steps: int | None
    start: float = 0.0

    def progress(self, *, step: int, elapsed_s: float) -> float:
        """Share of the budget spent; 1 or more means stop."""
        spent = elapsed_s / self.seconds if self.steps is None else step / self.steps
        return self.start + (1.0 - self.start) * spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a training run reached."""

    steps: int
    wall_s: float


def train(network: LlamaNetwork, mixture: Mixture, budget: Budget, *, device: str, snapshot_folder: Path | None) -> Run:
    """Run steps until the budget is spent; prints a line now and then and writes snapshots of the weights."""
    optimizer = Optimizer(network)
    started_s = snapshot_s = time.monotonic()
    step, recent_loss = 0, 0.0
    while True:
        elapsed_s = time.monotonic() - started_s
        progress = budget.progress(step=step, elapsed_s=elapsed_s)
        if progress >= 1.0:
            return Run(steps=step, wall_s=elapsed_s)
        length = window_length(progress, step)
        tokens_BT = mixture.batch(windows=TOKENS_PER_STEP // length, length=length).to(device)
        with torch.autocast(device, torch.bfloat16):
            loss = network.loss(tokens_BT)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        # The moments start empty, also when the weights come from a snapshot.
        optimizer.step(learning_rate_factor(progress) * min(1.0, (step + 1) / RAMP_STEPS))
        step += 1
        recent_loss += loss.item()
        if step % REPORT_STEPS == 0:
            speed = step * TOKENS_PER_STEP / (time.monotonic() - started_s)
            print(f"{progress:6.1%}  step {step:5d}  loss {recent_loss / REPORT_STEPS:.3f}  {speed:5.0f} tokens/s")
            recent_loss = 0.0
        if snapshot_folder is not None and time.monotonic() - snapshot_s > SNAPSHOT_S:
            write_weights(snapshot_folder, dict(network.state_dict()), WeightType.BF16)
            snapshot_s = time.monotonic()


def main() -> None:
    """Read the flags, make tokenizer and batches, train, evaluate, write the folder."""
    options = _parser().parse_args()
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    shape = NAMED_SHAPES["demo"]
    sources = read_sources()
    tokenizer = train_tokenizer((source.text for source in sources if source.share is Share.LIBRARY), vocab=shape.vocab)
    if options.snapshots is not None:
        write_description(options.snapshots, shape, WeightType.BF16, tokenizer)
    network = LlamaNetwork(shape)
    network.initialise(torch.Generator().manual_seed(options.seed))
    if options.go_on is not None:
        network.load_state_dict({name: tensor.float() for name, tensor in read_weights(options.go_on).items()})
    network.to(options.device)
    mixture = mix(tokenizer, sources, read_tasks(sources), seed=options.seed)
    minutes = options.minutes or DEFAULT_MINUTES[options.device]
    budget = Budget(seconds=minutes * 60.0, steps=options.steps, start=options.start)
    run = train(network, mixture, budget, device=options.device, snapshot_folder=options.snapshots)
    # The finished folder appears at the end only, so that a broken-off run leaves the one before it whole.
    write_description(options.out, shape, WeightType.BF16, tokenizer)
    write_weights(options.out, dict(network.state_dict()), WeightType.BF16)
    origin = Origin(
        command=shlex.join(["python", "-m", "models.build.train", *sys.argv[1:]]),
        seed=options.seed,
        python=platform.python_version(),
        torch=torch.__version__,
    )
    training = Training(
        steps=run.steps,
        tokens_seen=run.steps * TOKENS_PER_STEP,
        wall_s=round(run.wall_s),
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, {options.device}",
    )
    write_manifest(options.out, origin, training=training, held_out=held_out_loss(options.out, sources))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.build.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=DEMO_FOLDER, help="folder for the finished model (default: demo)")
    parser.add_argument("--snapshots", type=Path, help="folder for weights in the middle of the run")
    parser.add_argument("--go-on", type=Path, help="start from the weights of this snapshot folder")
    parser.add_argument("--start", type=float, default=0.0, help="progress the snapshot had reached, 0 to 1")
    parser.add_argument("--minutes", type=float, help="budget in wall time (default 60 on a CPU, 6 on a GPU)")
    parser.add_argument("--steps", type=int, help="budget in steps of 4,096 tokens, instead of --minutes")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and batches (default 1)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


if __name__ == "__main__":
    main()
