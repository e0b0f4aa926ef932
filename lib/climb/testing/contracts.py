"""Contract checks of proxies and searchers, for built-in and external plug-ins.

    def test_my_searcher_keeps_the_contract():
        check_searcher(MySearcher(factor=0.5))

Each check raises AssertionError with the rule that the plug-in breaks.
"""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from climb.config import load
from climb.predictor import Array, Predictor
from climb.predictor.gp import GPPredictor
from climb.proxy import Proxy, ProxyRun, Target
from climb.proxy.heartbeat import read_progress
from climb.search import Problem, Searcher, SearchState, Trials
from climb.testing.rules import call_plugin, check_recipe
from climb.testing.world import PlantedWorld
from climb.tokenizer import TokenizerFile, train_json


def check_proxy(proxy: Proxy, folder: Path, device: str = "cpu", n_tokens: int = 4_096) -> None:
    """Train a proxy on a tiny generated corpus, from a random model and from a checkpoint.

    Args:
        proxy: the plug-in to check.
        folder: an empty folder for files.
        device: where to train.
        n_tokens: tokens of each run, enough for at least two steps of the proxy.

    Raises:
        AssertionError: the proxy breaks a rule, which the message states.
    """
    assert isinstance(proxy, Proxy), "a proxy must have a method train(run, device)"
    check_recipe(proxy, "proxy")
    base = dataclasses.replace(build_tiny_run(folder, n_tokens), heartbeat=str(folder / "beat"))
    _train(proxy, base, device)
    saved = Path(base.save or "")
    is_saved = saved.is_dir() and any(saved.iterdir())
    assert is_saved, "the trained model must be in the folder `save`"
    assert not Path(base.checkpoints).exists(), "a finished run must remove its checkpoints"

    if getattr(proxy, "reports_progress", False):
        assert read_progress(folder / "beat"), "a proxy with reports_progress must write heartbeats"

    continued = dataclasses.replace(base, start=base.save, save=None, seed=1)
    first = _train(proxy, continued, device)
    again = _train(proxy, continued, device)
    assert first == again, f"equal runs must give equal metrics; found {first} and {again}"
    stopped = dataclasses.replace(continued, stop_tokens=n_tokens // 2)
    partial = _train(proxy, stopped, device)
    assert partial != first, "a run must stop and be measured after `stop_tokens`"
    again = _train(proxy, continued, device)
    assert first == again, "a run that stopped and continues must equal one that did not stop"
    other = dataclasses.replace(continued, weights={"letters": 0.0, "numbers": 1.0})
    assert _train(proxy, other, device) != first, "another mixture must give other metrics"


def check_searcher(searcher: Searcher, predictor: Predictor | None = None) -> None:
    """Run three small rounds of a search in a planted world, and ask for the recommendation.

    Args:
        searcher: the plug-in to check.
        predictor: the problem's predictor; None: a Gaussian process.

    Raises:
        AssertionError: the searcher breaks a rule, which the message states.
    """
    required = "a searcher must have methods propose(state, round_, n) and recommend(state)"
    assert isinstance(searcher, Searcher), required
    check_recipe(searcher, "searcher")
    world = PlantedWorld.build(5, 2, noise=0.1, seed=0)
    cfg = load(settings=["search.trials_per_round=[8, 5, 3]", "search.candidates=200"]).search
    problem = Problem(world.space, None, predictor or GPPredictor(), searcher, cfg)
    trials = Trials.from_rows([], world.space.domains, ())
    rows = world.make_baseline_rows(2)
    for round_, n in enumerate(cfg.trials_per_round):
        proposed_MK = _ask_checked(problem, trials, round_, n)
        feasible_MK = world.space.project(proposed_MK)
        rows += [world.make_row(w_K, round_, "proposal", 0) for w_K in feasible_MK]
        trials, problem = world.make_trials(rows), problem.with_objective(world.objective)
    _ask_checked(problem, trials)


def _ask_checked(
    problem: Problem, trials: Trials, round_: int | None = None, n: int | None = None
) -> Array:
    """Check that the proposals for a round, or the recommendation, are valid and deterministic.

    The same trials go to a copy of the searcher; the searcher itself gets them in another order.
    """

    def ask(searcher: Searcher, own: Trials) -> Array:
        # A new state for each call, because a state keeps its fitted surrogate.
        state = SearchState(own, problem, np.arange(len(own.domains)))
        with call_plugin("recommend" if round_ is None else "propose"):
            if round_ is None or n is None:
                return np.asarray(searcher.recommend(state))
            return np.asarray(searcher.propose(state, round_, n))

    name = "the recommendation" if round_ is None else f"the proposal for round {round_}"
    shape = tuple(size for size in (n, len(trials.domains)) if size is not None)
    before = copy.deepcopy(trials)
    mixtures = ask(problem.searcher, trials)
    is_numeric = np.issubdtype(mixtures.dtype, np.number)
    assert is_numeric, f"{name} must be an array of numbers; found {mixtures.dtype}"
    assert mixtures.shape == shape, f"{name} must have shape {shape}; found {mixtures.shape}"
    assert np.isfinite(mixtures).all(), f"{name} must be finite"
    assert (mixtures >= 0.0).all(), f"{name} must not have a negative weight"
    assert mixtures.any(axis=-1).all(), f"{name} must not have a mixture of zeros"
    for field in dataclasses.fields(trials):
        same = np.array_equal(getattr(before, field.name), getattr(trials, field.name))
        assert same, f"{name} must not change the trials"
    again = ask(pickle.loads(pickle.dumps(problem.searcher)), trials)
    same = again.tobytes() == mixtures.tobytes()
    assert same, f"{name} must depend on the seed and the trials alone"
    reversed_ = ask(problem.searcher, _reverse(trials))
    same = reversed_.tobytes() == mixtures.tobytes()
    assert same, f"{name} must not depend on the order of trials"
    return mixtures


def _reverse(trials: Trials) -> Trials:
    """Return the same trials in reverse order."""
    return dataclasses.replace(
        trials,
        weights_TK=trials.weights_TK[::-1].copy(),
        metrics_TQ=trials.metrics_TQ[::-1].copy(),
        rounds_T=trials.rounds_T[::-1].copy(),
        methods_T=trials.methods_T[::-1],
        seeds_T=trials.seeds_T[::-1].copy(),
        tv_distance_T=trials.tv_distance_T[::-1].copy(),
    )


def _train(proxy: Proxy, run: ProxyRun, device: str) -> dict[str, float]:
    """Train a run, and check its metrics."""
    before = dict(run.weights)
    with call_plugin("train"):
        metrics = proxy.train(run, device)
    assert run.weights == before, "train must not change the weights of the run"
    _check_metrics(metrics, run)
    return metrics


def _check_metrics(metrics: Any, run: ProxyRun) -> None:
    found = type(metrics).__name__
    assert isinstance(metrics, Mapping), f"train must return a dict of metrics; found {found}"
    names = ("bpb", "prob", "accuracy", "accuracy_norm")
    required = {"letters.bpb", *(f"numbers.{name}" for name in names)}
    missing = sorted(required - set(metrics))
    assert not missing, f"metrics must be named <target>.<metric>; missing: {', '.join(missing)}"
    for name, value in metrics.items():
        assert isinstance(value, float), f"{name} must be a float; found {value!r}"
        assert math.isfinite(value), f"{name} must be finite; found {value}"
    for target in run.targets:
        assert metrics[f"{target.name}.bpb"] > 0.0, f"{target.name}.bpb must be above 0"


def build_tiny_run(folder: Path, n_tokens: int) -> ProxyRun:
    """Write two domains, a tokenizer, a text target and a multiple-choice target to a folder.

    Args:
        folder: for the files; created if needed.
        n_tokens: tokens of the run.

    Returns:
        A run that starts from a random model, reads both domains with weight 0.5, and saves the
        model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    words = {
        "letters": ["red", "green", "blue", "tree", "river", "stone"],
        "numbers": ["one", "two", "three", "four", "five", "six"],
    }
    texts = {
        domain: " ".join(random.choice(choices, size=4_000)) + "."
        for domain, choices in words.items()
    }
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(train_json(texts.values(), vocab_size=280), encoding="utf-8")
    return ProxyRun(
        weights={"letters": 0.5, "numbers": 0.5},
        shards=_write_shards(folder, texts, TokenizerFile(str(tokenizer))),
        tokenizer=TokenizerFile(str(tokenizer)),
        n_tokens=n_tokens,
        seed=0,
        start=None,
        save=str(folder / "model"),
        checkpoints=str(folder / "checkpoints"),
        checkpoint_steps=2,
        targets=_write_targets(folder, texts["letters"][:500]),
    )


def _write_shards(folder: Path, texts: dict[str, str], tokenizer: TokenizerFile) -> dict[str, str]:
    shards = {domain: str(folder / f"{domain}.npy") for domain in texts}
    for domain, text in texts.items():
        ids = tokenizer.open().encode(text).ids
        np.save(shards[domain], np.array(ids, dtype=np.uint16))
    return shards


def _write_targets(folder: Path, text: str) -> tuple[Target, ...]:
    choices: list[dict[str, object]] = [
        {"context": f"one two {word}", "choices": [" four five", " river"], "label": 0}
        for word in ("one", "two", "three", "four", "five", "six")
    ]
    letters = _write_json_lines(folder / "letters.jsonl", [{"text": text}])
    numbers = _write_json_lines(folder / "numbers.jsonl.gz", choices)
    return (
        Target(name="letters", kind="text", path=letters),
        Target(name="numbers", kind="choices", path=numbers, limit=4),
    )


def _write_json_lines(path: Path, rows: list[dict[str, object]]) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)
