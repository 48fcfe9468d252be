"""A plain Llama network in torch, for training only: whole sequences, no cache, no paging.

It shares no code with the serving path on purpose, so each can be held against the other.
Shape suffixes: B sequences, T positions, H query heads, G key/value heads, D head dim, C hidden,
F feed-forward, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.build.shape import ModelShape


def rotary_table(shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angle, (max_positions, D) fp32, the two halves of D alike."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(shape.max_positions, dtype=torch.float32), shape.rope_theta**-exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn channel pairs (i, i + D/2) by the position's angle."""
    first, second = x_BHTD.chunk(2, dim=-1)
    return x_BHTD * cos_TD + torch.cat((-second, first), dim=-1) * sin_TD


class RMSNorm(nn.Module):
    """Scale each row to unit root mean square, then by a learned gain; fp32 inside."""

    def __init__(self, hidden: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden))
        self.eps = eps

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Normalise the last dimension; returns fp32."""
        return functional.rms_norm(x_BTC.float(), self.weight.shape, self.weight, self.eps)


def project(layer: nn.Linear, x_BTC: Tensor) -> Tensor:
    """Apply a bias-free linear layer; a module call has no return type, this has."""
    return functional.linear(x_BTC, layer.weight)


class Attention(nn.Module):
    """Causal grouped-query self-attention with rotary positions."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.num_heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.num_kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.num_kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.num_heads * shape.head_dim, shape.hidden, bias=False)

    def forward(self, x_BTC: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
        """Mix each position with those before it; (B, T, C) in and out."""
        batch, length, _ = x_BTC.shape
        heads, kv_heads, dim = self.shape.num_heads, self.shape.num_kv_heads, self.shape.head_dim
        q_BHTD = project(self.q_proj, x_BTC).view(batch, length, heads, dim).transpose(1, 2)
        k_BGTD = project(self.k_proj, x_BTC).view(batch, length, kv_heads, dim).transpose(1, 2)
        v_BGTD = project(self.v_proj, x_BTC).view(batch, length, kv_heads, dim).transpose(1, 2)
        q_BHTD, k_BGTD = rotate(q_BHTD, cos_TD, sin_TD), rotate(k_BGTD, cos_TD, sin_TD)
        # Repeating keys and values per query head keeps the fused CPU attention kernel eligible.
        k_BHTD = k_BGTD.repeat_interleave(heads // kv_heads, dim=1)
        v_BHTD = v_BGTD.repeat_interleave(heads // kv_heads, dim=1)
        mixed_BHTD = functional.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)
        return project(self.o_proj, mixed_BHTD.transpose(1, 2).reshape(batch, length, heads * dim))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Each position by itself; (B, T, C) in and out."""
        gate_BTF = functional.silu(project(self.gate_proj, x_BTC))
        return project(self.down_proj, gate_BTF * project(self.up_proj, x_BTC))


class DecoderLayer(nn.Module):
    """Pre-norm residual layer: attention, then feed-forward."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x_BTC: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
        """Add both parts to the residual stream (B, T, C)."""
        x_BTC = x_BTC + self.self_attn.forward(self.input_layernorm(x_BTC), cos_TD, sin_TD)
        return x_BTC + self.mlp.forward(self.post_attention_layernorm(x_BTC))


class Trunk(nn.Module):
    """Embedding, layers, final norm; named as in a Hugging Face checkpoint."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.num_layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)


class LlamaNetwork(nn.Module):
    """The whole model with tied embeddings; parameter names equal the names in model.safetensors."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        if not shape.is_tied:
            raise ValueError("the training network only knows tied embeddings")
        self.shape = shape
        self.model = Trunk(shape)
        cos, sin = rotary_table(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Normal weights of std 0.02; what writes into the residual stream starts smaller, by 1/sqrt(2 layers)."""
        residual_std = 0.02 / (2 * self.shape.num_layers) ** 0.5
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 2:
                    writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                    weight.normal_(0.0, residual_std if writes_residual else 0.02, generator=generator)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) for the token after each position."""
        length = tokens_BT.shape[1]
        x_BTC = self.model.embed_tokens(tokens_BT)
        cos_TD, sin_TD = self.cos[:length].to(x_BTC.dtype), self.sin[:length].to(x_BTC.dtype)
        for layer in self.model.layers:
            x_BTC = layer(x_BTC, cos_TD, sin_TD)
        return functional.linear(self.model.norm(x_BTC), self.model.embed_tokens.weight)

    def loss(self, tokens_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats of tokens 1..T-1 given those before; scalar fp32."""
        logits_BTV = self(tokens_BT[:, :-1])
        return functional.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BT[:, 1:].flatten())
