"""The two optimisers of a training run: Muon for the matrices inside layers, AdamW for embedding and gains."""

import torch
from torch import nn

# Chosen: with updates matched to AdamW's size, 4e-3 is close to the rate 0.02 that Muon is usually given at this
# width; the embedding is also the output matrix and wants a gentler one.
MATRIX_RATE, EMBEDDING_RATE = 4e-3, 3e-3
WEIGHT_DECAY = 0.1
MAX_GRADIENT_NORM = 1.0


class Optimizer:
    """Steps both optimisers under one schedule factor. One writer: the training loop."""

    def __init__(self, network: nn.Module) -> None:
        named = list(network.named_parameters())
        matrices = [weight for name, weight in named if weight.dim() == 2 and "embed" not in name]
        others = [weight for name, weight in named if weight.dim() != 2 or "embed" in name]
        self.weights = [weight for _, weight in named]
        self.muon = torch.optim.Muon(
            matrices, lr=MATRIX_RATE, weight_decay=WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw = torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, factor: float) -> None:
        """Clip, apply and clear the gradients, with every base rate times `factor`."""
        nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM)
        optimizers: tuple[tuple[torch.optim.Optimizer, float], ...] = (
            (self.muon, MATRIX_RATE),
            (self.adamw, EMBEDDING_RATE),
        )
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
