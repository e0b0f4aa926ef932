"""Folders of causal language models: open a checkpoint, check it, save it with its tokenizer.

Axes: B rows, T tokens of a row.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from climb.errors import ConfigError, one_line
from climb.files import resolve, write_folder
from climb.proxy.language_model import compute_hidden_states
from climb.tokenizer import TokenizerFile

TOKENIZER_FILE = "tokenizer.json"

LARGE_LOGIT = 1e4
"""Largest logit of the test that detects soft caps. A soft cap changes such large logits, but
hardly changes the small logits of a new model."""


def open_model(folder: str | Path, n_ids: int) -> Any:
    """Open a local checkpoint in float32.

    Attention is computed by SDPA where the architecture supports it, whatever config.json names.
    Settings of text generation and `output_attentions` are dropped, because proxies use neither.
    With some values of these settings, transformers refuses to save the trained model.

    Args:
        folder: folder of the checkpoint.
        n_ids: number of token ids of the tokenizer.

    Raises:
        ConfigError: the folder contains no supported causal language model, or the vocabulary of
            the model is smaller than n_ids.
    """
    model, missing = _load(folder)
    if missing:
        raise ConfigError(
            f"model {folder} ({model.config.model_type}) is not a causal language model: its files "
            f"lack {len(missing)} weights, such as {missing[0]}"
        )
    if not hasattr(model.config, "vocab_size"):
        raise ConfigError(
            f"model {folder} ({model.config.model_type}) is not a model of text only: its config "
            "has no vocab_size; save only its language model to a new folder, and use the path of "
            "that folder"
        )
    if model.config.vocab_size < n_ids:
        raise ConfigError(
            f"model {folder} has a vocabulary of {model.config.vocab_size} token ids, but the "
            f"tokenizer has {n_ids}; set count.path to the model's own tokenizer"
        )
    _check_logits(model, folder)
    return model


def _load(folder: str | Path) -> tuple[Any, list[str]]:
    """Load a model; return it with the names of the weights that its files lack."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # missing weights are reported by `open_model`, in one line
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.output_attentions = False
        # With None, transformers uses SDPA if the architecture supports it, else `eager`.
        config._attn_implementation = None
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"model {folder} cannot be opened as a causal language model: {one_line(error)}"
        ) from error
    if model.can_generate():
        model.generation_config = GenerationConfig.from_model_config(model.config)
    return model, sorted(loading["missing_keys"])


def _check_logits(model: Any, folder: str | Path) -> None:
    """Check that logits are those of the output layer, and do not depend on later tokens."""
    import torch

    name = f"model {folder} ({model.config.model_type})"
    ids_BT = torch.tensor([[0, 1], [0, 0]])
    with torch.inference_mode():
        logits = model.get_output_embeddings()(compute_hidden_states(model, ids_BT))
        expected = model(input_ids=ids_BT).logits
    if not torch.allclose(expected[0, 0], expected[1, 0], atol=1e-5, rtol=1e-5):
        raise ConfigError(
            f"{name} is not a causal language model: its predictions depend on later tokens"
        )
    large = torch.linspace(-LARGE_LOGIT, LARGE_LOGIT, logits.shape[-1])
    hook = model.get_output_embeddings().register_forward_hook(
        lambda layer, inputs, output: large.expand_as(output)
    )
    with hook, torch.inference_mode():
        found = model(input_ids=ids_BT).logits
    is_same = torch.allclose(expected, logits, atol=1e-3, rtol=1e-3)
    if not (is_same and torch.allclose(found, large.expand_as(found))):
        raise ConfigError(
            f"{name} changes its logits after the output layer, which proxies do not support; use "
            "another architecture"
        )


def save_model(model: Any, tokenizer: TokenizerFile, folder: Path) -> None:
    """Write a Hugging Face checkpoint with its tokenizer; only a complete folder counts as a model.

    The model is saved on the local disk and then copied: safetensors truncates and renames its
    file, which mounts of object stores may refuse.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Without `tokenizer_class`, transformers builds the architecture's usual tokenizer.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": tokenizer.end_of_text,
        "clean_up_tokenization_spaces": False,
    }
    with write_folder(folder) as local:
        model.save_pretrained(local)
        shutil.copyfile(resolve(tokenizer.path), local / TOKENIZER_FILE)
        (local / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
