"""Resume points of one run: two slots, so that one is whole whenever the process dies.

A file is a line of text (format, SHA-256 of what follows, run) and then the state as torch
saves it. A file that was cut short, damaged, or written by another run is passed over.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb.config import recipe_of
from climb.files import content_digest, replacing, resolve
from climb.proxy import Proxy, ProxyRun

FORMAT = "climb-checkpoint-1"


def run_digest(proxy: Proxy, run: ProxyRun, device: str) -> str:
    """Identify what decides the trained weights: recipe, data by content, seed, kind of device.

    Paths, targets and the distance between checkpoints are left out: they change no weight.
    """
    made_from = {
        "recipe": recipe_of(proxy),
        "weights": {domain: repr(weight) for domain, weight in run.weights.items() if weight},
        "shards": {
            domain: content_digest(resolve(run.shards[domain]))
            for domain, weight in run.weights.items()
            if weight
        },
        "tokenizer": content_digest(resolve(run.tokenizer)),
        "n_tokens": run.n_tokens,
        "seed": run.seed,
        "start": None if run.start is None else content_digest(resolve(run.start)),
        "device": device.partition(":")[0],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The two slots of a run."""

    def __init__(self, folder: str | Path, run: str) -> None:
        self._slots = [Path(folder) / f"slot-{i}.pt" for i in range(2)]
        self._run = run
        self._next = 0

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state over the older slot: beside it, synced, renamed.

        Args:
            state: tensors, numbers, strings and containers of them; `step` says how far it is.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        payload = buffer.getvalue()
        header = f"{FORMAT} {hashlib.sha256(payload).hexdigest()} {self._run}\n"
        with replacing(self._slots[self._next]) as stream:
            stream.write(header.encode() + payload)
        self._next = 1 - self._next

    def load(self) -> dict[str, Any] | None:
        """Return this run's whole state with the most steps; None where there is none."""
        found = [(state["step"], i, state) for i in range(2) if (state := self._read(i))]
        if not found:
            return None
        _, newest, state = max(found, key=lambda item: item[:2])
        self._next = 1 - newest
        return state

    def remove(self) -> None:
        """Delete the folder: the run has ended well."""
        shutil.rmtree(self._slots[0].parent, ignore_errors=True)

    def _read(self, slot: int) -> dict[str, Any] | None:
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
