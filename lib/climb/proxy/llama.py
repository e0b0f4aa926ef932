"""Proxies: a small Llama with random weights, or a local Hugging Face checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from climb.config import ModelPath
from climb.errors import ConfigError
from climb.files import resolve
from climb.proxy.model_files import open_model
from climb.proxy.training import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class LlamaProxy(TrainingRecipe):
    """A decoder with RMSNorm, SwiGLU and RoPE, like CLIMB's proxies.

    Number of parameters: vocabulary x hidden (twice if not tied) + layers x (4 hidden^2 +
    3 hidden x feed_forward). For hidden 96, layers 2 and vocabulary 2,048: 0.42 million.

    Source:
        CLIMB (arXiv 2504.13161), section 4; Llama (arXiv 2302.13971).
    """

    hidden: int
    """Width; a multiple of 2 x heads, since RoPE rotates pairs of dimensions."""

    layers: int
    heads: int
    feed_forward: int | None = None
    """Inner width of SwiGLU; null means 8/3 hidden (Llama), rounded up to a multiple of 8."""

    tied: bool = True
    """Whether input and output embeddings share one matrix. A second matrix would give a small
    model about 1.5 times as many parameters."""

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

    def create_model(self, n_ids: int) -> Any:
        """Create random weights from torch's random state, which `run_training` seeds."""
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

    def open_start(self, start: str, n_ids: int) -> Any:
        """Open the base checkpoint.

        Raises:
            ConfigError: its hidden size, layers or heads differ from this recipe.
        """
        model = super().open_start(start, n_ids)
        sizes = {"hidden": "hidden_size", "layers": "num_hidden_layers"}
        sizes["heads"] = "num_attention_heads"
        for field, name in sizes.items():
            if getattr(self, field) != getattr(model.config, name, None):
                raise ConfigError(
                    f"base checkpoint {start} has {field} {getattr(model.config, name, None)}, "
                    f"but the proxy is configured with {field} {getattr(self, field)}"
                )
        return model


@dataclass(frozen=True, kw_only=True)
class HuggingFaceProxy(TrainingRecipe):
    """Continues the training of an existing checkpoint, as CLIMB's proxies do.

    `count.path` must be the model's own tokenizer.
    """

    model: ModelPath
    """Folder of a causal language model, written by `save_pretrained`."""

    def create_model(self, n_ids: int) -> Any:
        """Open the checkpoint `model`.

        Raises:
            ConfigError: it is not a causal language model, its vocabulary is smaller than that of
                the tokenizer, or it was made for shorter sequences.
        """
        model = open_model(resolve(self.model), n_ids)
        longest = getattr(model.config, "max_position_embeddings", None)
        if longest is not None and self.sequence > longest:
            raise ConfigError(
                f"HuggingFaceProxy.sequence is {self.sequence}, but model {self.model} was made "
                f"for at most {longest} tokens; set sequence to {longest} or less"
            )
        return model
