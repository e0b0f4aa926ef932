"""Checkpoints of one run, in two slots, so that one slot is valid whenever the process dies.

A file is a line of text (format, SHA-256 of the payload, digest of the run) followed by the state
in torch's format. A file that is truncated, damaged, or from another run is ignored.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb.config import recipe_of
from climb.files import hash_content, read_digest, resolve, write_file
from climb.proxy import Proxy, ProxyRun

FORMAT = "climb-checkpoint-1"

ARITHMETIC = {"cuda": 2}
"""Kind of device -> version number. It is raised when `auto`, as a value of `precision` or
`compile`, gets another meaning on this kind of device. Another version changes the digest of a run,
so older checkpoints are ignored. Kinds of device that are not listed have version 1. For such a
device, the version is not part of the digest."""


def compute_run_digest(
    proxy: Proxy, run: ProxyRun, device: str, further: Mapping[str, Any] | None = None
) -> str:
    """Hash everything that determines the trained weights.

    These are recipe, mixture, data, tokenizer, base checkpoint, number of tokens, seed, kind of
    device and number of processes. Data are identified by their content. Paths, targets,
    `checkpoint_steps` and `stop_tokens` are left out, since the model's parameters after each step
    do not depend on them.

    Args:
        proxy: recipe of the model.
        run: data, number of tokens, seed.
        device: `cpu`, `cuda:0`, ...
        further: JSON values that also determine the trained weights.
    """
    kind = device.partition(":")[0]
    made_from = {
        "recipe": recipe_of(proxy),
        "weights": {domain: repr(weight) for domain, weight in run.weights.items() if weight},
        "shards": {
            domain: read_digest(resolve(run.shards[domain]))
            for domain, weight in run.weights.items()
            if weight
        },
        "tokenizer": hash_content(resolve(run.tokenizer.path)),
        "n_tokens": run.n_tokens,
        "seed": run.seed,
        "start": None if run.start is None else read_digest(resolve(run.start)),
        "device": kind,
    }
    if kind in ARITHMETIC:
        made_from["arithmetic"] = ARITHMETIC[kind]
    if run.processes > 1:
        made_from["processes"] = run.processes
    made_from |= further or {}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The two slots of a run."""

    def __init__(self, folder: str | Path, run: str) -> None:
        self._slots = [Path(folder) / f"slot-{i}.pt" for i in range(2)]
        self._run = run
        self._next = 0

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state into the older slot; the other slot stays valid meanwhile.

        Args:
            state: tensors, numbers, strings and containers of them; `step` is the number of
                completed steps.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        payload = buffer.getvalue()
        header = f"{FORMAT} {hashlib.sha256(payload).hexdigest()} {self._run}\n".encode()
        write_file(self._slots[self._next], lambda: [header, payload])
        self._next = 1 - self._next

    def load(self, most_steps: float = math.inf) -> dict[str, Any] | None:
        """Return the valid state of this run with the most steps; None if there is none.

        Args:
            most_steps: states with more steps are ignored.
        """
        found = [(i, state) for i in range(2) if (state := self._read_slot(i))]
        states = [(state["step"], i, state) for i, state in found if state["step"] <= most_steps]
        if not states:
            return None
        _, newest, state = max(states, key=lambda item: item[:2])
        self._next = 1 - newest
        return state

    def remove(self) -> None:
        """Delete the folder after a successful run."""
        shutil.rmtree(self._slots[0].parent, ignore_errors=True)

    def _read_slot(self, slot: int) -> dict[str, Any] | None:
        import torch

        try:
            header, _, payload = self._slots[slot].read_bytes().partition(b"\n")
        except OSError:
            return None
        expected = f"{FORMAT} {hashlib.sha256(payload).hexdigest()} {self._run}"
        if header != expected.encode():
            return None
        state: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location="cpu", weights_only=True
        )
        return state
