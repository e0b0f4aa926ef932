"""Proxies: a small Llama from random weights, or any local Hugging Face checkpoint trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from climb.config import ModelPath
from climb.errors import ConfigError
from climb.files import resolve
from climb.proxy.language_model import open_model
from climb.proxy.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class LlamaProxy(TrainingRecipe):
    """A decoder with RMSNorm, SwiGLU and RoPE, as CLIMB's proxies.

    Parameters: vocabulary x hidden (twice where not tied) + layers x (4 hidden^2 + 3 hidden x
    feed_forward); hidden 96, layers 2, vocabulary 2,048: 0.42 million.

    Source:
        CLIMB (arXiv 2504.13161), section 4; Llama (arXiv 2302.13971).
    """

    hidden: int
    """Width; a multiple of 2 x heads, since RoPE turns pairs."""

    layers: int
    heads: int
    feed_forward: int | None = None
    """Inner width of SwiGLU; null: 8/3 hidden (Llama), rounded up to a multiple of 8."""

    tied: bool = True
    """One matrix embeds and predicts: at these sizes a second one would be half of the model."""

    rope_theta: float = 10_000.0
    """Base of the rotary frequencies. RoFormer (arXiv 2104.09864)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"LlamaProxy.{name} is {getattr(self, name)}; it must be >= 1")
        if self.hidden % (2 * self.heads):
            raise ConfigError(
                f"LlamaProxy.hidden is {self.hidden}; with {self.heads} heads it must be a "
                f"multiple of {2 * self.heads}"
            )

    def fresh(self, n_ids: int) -> Any:
        """Random weights from torch's random state, which `train` has seeded."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=n_ids,
            hidden_size=self.hidden,
            intermediate_size=self.feed_forward or -(-8 * self.hidden // 3 // 8) * 8,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            max_position_embeddings=self.sequence,
            tie_word_embeddings=self.tied,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            attn_implementation="sdpa",
            use_cache=False,
        )
        return LlamaForCausalLM(config)

    def continued(self, start: str, n_ids: int) -> Any:
        """The checkpoint's weights; they must be of this recipe's size."""
        model = super().continued(start, n_ids)
        sizes = {"hidden": "hidden_size", "layers": "num_hidden_layers"}
        sizes["heads"] = "num_attention_heads"
        for field, name in sizes.items():
            if getattr(self, field) != getattr(model.config, name, None):
                raise ConfigError(
                    f"start {start} has {field} {getattr(model.config, name, None)}, but the "
                    f"recipe has {getattr(self, field)}"
                )
        return model


@dataclass(frozen=True, kw_only=True)
class HuggingFaceProxy(TrainingRecipe):
    """A checkpoint that somebody else trained, continued: CLIMB's own proxies are made this way.

    `count.path` must name the model's own tokenizer.
    """

    model: ModelPath
    """Folder of a causal language model as `save_pretrained` writes it."""

    def fresh(self, n_ids: int) -> Any:
        """The checkpoint's weights."""
        return open_model(resolve(self.model), n_ids)
