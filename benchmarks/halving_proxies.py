"""Real proxies for halving.py: curves of trials on the shared corpora, trained once and kept.

A finished run is a line of .cache/halving/runs.jsonl, so a measurement continues where it stopped.

Axes: M mixtures, K domains.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_text import DOMAINS, PROCESSES, PROXY
from shared import hash_id, shared_data

from climb.config import load
from climb.files import is_complete
from climb.mixture import FeasibleSet
from climb.proxy import ProxyRun, Target
from climb.search import Problem
from climb.spark.training.task import train_one
from climb.tokenizer import TokenizerFile, train_json

Array = NDArray[np.float64]

TARGETS = ("arc_easy", "arc_challenge", "piqa")
SHARES = (0.25, 1.0)
"""Shares of a trial's tokens at which it is measured."""

_VOCABULARY, _SAMPLE_CHARS, _CHECKPOINT_STEPS = 2_048, 4_000_000, 1_000
_CHARS_PER_TOKEN, _TEXT_PER_TARGET = 3, 6
"""About; the target run reads a sixth of the text, as in the demo."""

Curve = dict[float, dict[str, float]]
"""Share of the tokens -> metrics."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    chars: int = 1_500_000
    """Largest text of a domain."""

    base_tokens: int = 1_200_000
    trial_tokens: int = 49_152
    items: int = 100
    """Items of each target."""


@dataclass(frozen=True)
class Trial:
    """One mixture with one seed."""

    weights: tuple[float, ...]
    seed: int

    @property
    def name(self) -> str:
        """Key of its line."""
        weights = ",".join(f"{weight:.12f}" for weight in self.weights)
        return hash_id(f"{weights} {self.seed}")[:16]


class Lab:
    """A folder with shards, a base checkpoint and the curves of finished trials."""

    def __init__(self, folder: Path, size: Size, n_domains: int | None = None) -> None:
        self._folder, self._size = folder, size
        self.domains = DOMAINS[:n_domains]
        self._lines = folder / "runs.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.n_chars = self._write_shards()

    def build_problem(self, settings: Sequence[str], seed: int) -> Problem:
        """Build the problem of a search with the default plug-ins and constraints."""
        tokens = [self.n_chars[name] // _CHARS_PER_TOKEN for name in self.domains]
        target = f"search.target_tokens={sum(tokens) // _TEXT_PER_TARGET}"
        cfg = load(settings=[*settings, f"search.seed={seed}", target])
        space = FeasibleSet.from_constraints(self.domains, tokens, cfg.search.mixture_constraints)
        return Problem.from_config(space, None, cfg.search)

    def read_curves(self) -> dict[Trial, Curve]:
        """Read the curves of all finished trials."""
        curves = {}
        for line in self._lines.read_text().splitlines() if self._lines.exists() else ():
            row = json.loads(line)
            trial = Trial(tuple(row["weights"]), row["seed"])
            curves[trial] = {float(share): values for share, values in row["curve"].items()}
        return curves

    def train(self, trials: Sequence[Trial], seconds: float) -> bool:
        """Train trials that are not finished, and start none after so many seconds.

        Returns:
            Whether all of them are finished now.
        """
        began, known = time.monotonic(), self.read_curves()
        todo = list(dict.fromkeys(trial for trial in trials if trial not in known))
        if not todo:
            return True
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            base = self._build_base()
            if not is_complete(Path(base.save or "")):
                pool.submit(train_one, PROXY, "base", base).result()
            active: dict[Future[tuple[Curve, float]], Trial] = {}
            while active or (todo and time.monotonic() - began < seconds):
                while todo and len(active) < PROCESSES and time.monotonic() - began < seconds:
                    trial = todo.pop(0)
                    active[pool.submit(train_curve, self._build_run(trial))] = trial
                for future in wait(active, return_when=FIRST_COMPLETED).done:
                    self._append(active.pop(future), *future.result())
        return not todo

    def _append(self, trial: Trial, curve: Curve, seconds: float) -> None:
        row = {"name": trial.name, "weights": trial.weights, "seed": trial.seed, "curve": curve}
        with self._lines.open("a") as stream:
            stream.write(json.dumps(row | {"seconds": round(seconds, 2)}) + "\n")

    def _build_run(self, trial: Trial) -> ProxyRun:
        targets = tuple(
            Target(
                name=name,
                kind="choices",
                path=str(shared_data() / "evals" / f"{name}.train.jsonl.gz"),
                limit=self._size.items,
            )
            for name in TARGETS
        )
        base = self._build_base()
        return dataclasses.replace(
            base,
            weights=dict(zip(self.domains, trial.weights, strict=True)),
            n_tokens=self._size.trial_tokens,
            seed=trial.seed,
            start=base.save,
            save=None,
            checkpoints=str(self._folder / "checkpoints" / trial.name),
            targets=targets,
        )

    def _build_base(self) -> ProxyRun:
        total = sum(self.n_chars.values())
        return ProxyRun(
            weights={name: n / total for name, n in self.n_chars.items()},
            shards={name: str(self._folder / f"{name}.npy") for name in self.domains},
            tokenizer=TokenizerFile(str(self._folder / "tokenizer.json")),
            n_tokens=self._size.base_tokens,
            seed=0,
            start=None,
            save=str(self._folder / "base"),
            checkpoints=str(self._folder / "checkpoints" / "base"),
            checkpoint_steps=_CHECKPOINT_STEPS,
        )

    def _write_shards(self) -> Mapping[str, int]:
        """Write the tokenizer and the shards once; return the characters of each domain."""
        done = self._folder / "chars.json"
        if done.exists():
            return dict(json.loads(done.read_text()))
        texts = {name: _read_texts(name, self._size.chars) for name in self.domains}
        share = _SAMPLE_CHARS // len(texts)
        sample = ["".join(documents)[:share] for documents in texts.values()]
        path = self._folder / "tokenizer.json"
        path.write_text(train_json(sample, _VOCABULARY))
        tokenizer = TokenizerFile(str(path)).open()
        for name, documents in texts.items():
            ids = [i for e in tokenizer.encode_batch(documents) for i in (*e.ids, 0)]
            np.save(self._folder / f"{name}.npy", np.array(ids, dtype=np.uint16))
        n_chars = {name: sum(map(len, documents)) for name, documents in texts.items()}
        done.write_text(json.dumps(n_chars))
        return n_chars


def train_curve(run: ProxyRun) -> tuple[Curve, float]:
    """Train a trial rung by rung, as a search with rungs does; return its curve and the seconds."""
    began, curve = time.monotonic(), {}
    for share in SHARES:
        stop = None if share == 1.0 else round(share * run.n_tokens)
        outcome = train_one(PROXY, "trial", dataclasses.replace(run, stop_tokens=stop))
        assert not isinstance(outcome, Exception), outcome
        assert outcome.status == "finished", outcome
        curve[share] = outcome.metrics
    return curve, time.monotonic() - began


def _read_texts(domain: str, n_chars: int) -> list[str]:
    """Read documents in the order of the hashes of their ids, up to so many characters."""
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data() / "corpus" / f"{domain}.parquet", columns=["id", "text"])
    rows = sorted(zip(*table.to_pydict().values(), strict=True), key=lambda row: hash_id(row[0]))
    ends = np.cumsum([len(text) for _, text in rows])
    return [text for (_, text), end in zip(rows, ends, strict=True) if end <= n_chars]
