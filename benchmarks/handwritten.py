"""A Llama and its training loop written by hand: what a proxy's speed on a CPU is compared with.

It has the parameters, by name, of transformers' model, so a test compares their losses.

Axes: B sequences, T tokens, D width, H heads, E dimensions of a head, V token ids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from training_loops import Shape

EPSILON, ROPE_THETA = 1e-6, 10_000.0
"""Of RMSNorm and RoPE, as in transformers' configuration."""


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis."""
        return F.rms_norm(x, self.weight.shape, self.weight, EPSILON)


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Attend to earlier tokens."""
        n, length, width = x_BTD.shape
        q, k, v = (
            project(x_BTD).view(n, length, self.heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (x * cos_TE + _rotate_half(x) * sin_TE for x in (q, k))
        attended_BHTE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(attended_BHTE.transpose(1, 2).reshape(n, length, width))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Apply the gated unit."""
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nn.Module):
    """A decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (Norm(shape.hidden) for _ in range(2))
        self.self_attn = Attention(shape.hidden, shape.heads)
        self.mlp = FeedForward(shape.hidden, shape.feed_forward)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        """Add attention and feed-forward to the residual stream."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_TE, sin_TE)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Llama(nn.Module):
    """Tied embeddings, decoder layers, and the mean next-token loss."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.n_ids, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        size = shape.hidden // shape.heads
        rates_E = ROPE_THETA ** (-torch.arange(0, size, 2) / size)
        angles_TE = torch.outer(torch.arange(shape.length), rates_E).repeat(1, 2)
        self.register_buffer("cos_TE", angles_TE.cos(), persistent=False)
        self.register_buffer("sin_TE", angles_TE.sin(), persistent=False)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Return the loss in nats."""
        x_BTD = self.embed_tokens(ids_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD, self.cos_TE, self.sin_TE)
        logits_BTV = self.norm(x_BTD[:, :-1]) @ self.embed_tokens.weight.T
        return F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())


class HandwrittenLoop:
    """The model in the shortest loop: AdamW, clipping, batches from an array in memory."""

    def __init__(self, shape: Shape) -> None:
        torch.manual_seed(0)
        self.model = Llama(shape)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True
        )
        size = (8, shape.batch, shape.length)
        self.ids = np.random.default_rng(0).integers(0, shape.n_ids, size)

    def take_steps(self, n: int) -> None:
        """Take n steps, and read every loss."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for i in range(n):
            self.optimizer.zero_grad()
            loss = self.model(torch.from_numpy(self.ids[i % len(self.ids)]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            assert np.isfinite(loss.item())
        torch.set_num_threads(threads)


def _rotate_half(x: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return torch.cat((-high, low), dim=-1)
