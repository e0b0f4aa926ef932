"""Part `bits` of gpu_training.py: equal bits in two processes, and after an interruption."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_loops import Shape, prepare_loop

from climb.proxy.gradients import GradientModel
from climb.proxy.language_model import make_reproducible
from climb.proxy.llama import LlamaProxy

N_STEPS = 12
"""Steps of each compared run."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "default, small": ("small", {}),
    "layers": ("bits", {"compile": "layers"}),
    "layers, only warnings": ("bits", {"compile": "layers"}),
    "step": ("bits", {"compile": "step"}),
    "layers, autocast": ("bits", {"compile": "layers", "precision": "bfloat16"}),
    "eager": ("bits", {"compile": "eager"}),
    "layers, not deterministic": ("bits", {"compile": "layers", "deterministic": False}),
}


def digest(tensors: Iterable[torch.Tensor]) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().cpu().numpy().tobytes())
    return sha.hexdigest()[:16]


def digest_gradients(shape: Shape, recipe: LlamaProxy, device: str) -> list[dict[str, str]]:
    """Compute the gradients of one batch twice, and return their digests by part of the model.

    A difference in one layer spreads to all earlier layers. So the part nearest to the output that
    differs has the cause. Only keys, queries and values of the last layer: the backward pass of
    attention.
    """
    model = recipe.create_model(shape.n_ids).to(torch.device(device)).train()
    gradients = GradientModel(model, recipe.resolve_numerics(model))
    gradients.compile((shape.batch, shape.length))
    ids = np.random.default_rng(0).integers(0, shape.n_ids, (shape.batch, shape.length))
    last, found = f"model.layers.{shape.layers - 1}.", []
    for _ in range(2):
        gradients.clear()
        loss = gradients.accumulate(torch.from_numpy(ids).to(device), ids.size)
        named = [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None]
        digests = {"loss": digest([loss])}
        for name, gradient in named:
            if name.startswith(last) or name == "model.norm.weight":
                digests[name.removeprefix(last)] = digest([gradient])
        digests["earlier layers"] = digest(
            g for n, g in named if "layers" in n and not n.startswith(last)
        )
        digests["embeddings and output layer"] = digest(g for n, g in named if "embed" in n)
        found.append(digests)
    return found


def compare_bits(name: str, shapes: dict[str, Shape], device: str) -> dict[str, Any]:
    """Return digests of gradients by part, and of runs with and without interruption."""
    kind, fields = CASES[name]
    shape = shapes[kind]
    recipe = shape.build_recipe(**fields)
    with make_reproducible(device, 0, recipe.precision, recipe.deterministic):
        if "warnings" in name:
            torch.use_deterministic_algorithms(True, warn_only=True)
        parts = digest_gradients(shape, recipe, device)
        torch.manual_seed(0)
        loop = prepare_loop(shape, recipe, device)
        for step in range(N_STEPS):
            if step == N_STEPS // 2:
                torch.save(loop.state_dict(), file := Path(tempfile.mkdtemp()) / "state")
            loop.take_step()
        whole = digest(loop.state_dict()["model"].values())
        resumed = prepare_loop(shape, recipe, device)
        resumed.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        while resumed.n_steps_done < N_STEPS:
            resumed.take_step()
        again = digest(resumed.state_dict()["model"].values())
    return {"parts": parts, "whole": whole, "resumed": again, "losses": loop.losses[-1:]}


def describe_bits(name: str, one: Any, other: Any) -> dict[str, Any]:
    """Compare the digests of two processes."""
    if "error" in one or "error" in other:
        return {"case": name, "error": one.get("error") or other.get("error")}
    first, second = one["parts"]
    return {
        "case": name,
        "equal runs": one["whole"] == other["whole"],
        "equal after interruption": one["resumed"] == one["whole"],
        "gradients differ in a process": [w for w in first if first[w] != second[w]],
        "gradients differ between processes": [
            w for w in first if first[w] != other["parts"][0][w]
        ],
        "last losses": one["losses"] + other["losses"],
    }
