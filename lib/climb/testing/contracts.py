"""What every plug-in promises, as checks that a plug-in of yours can be run through.

Each check raises AssertionError with the promise that was broken.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import inspect
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from climb.config import load
from climb.predictor import Array, Predict, Predictor
from climb.predictor.gp import GPPredictor
from climb.proxy import Proxy, ProxyRun, Target
from climb.search import Problem, Searcher, Trials, anchors
from climb.testing.world import PlantedWorld
from climb.tokenizer import train_json


def check_proxy(proxy: Proxy, folder: Path, device: str = "cpu", n_tokens: int = 4_096) -> None:
    """Train a proxy on a tiny made-up corpus, from the beginning and continued.

    Args:
        proxy: the recipe.
        folder: an empty folder for files.
        device: where to train.
        n_tokens: of each of the four runs; at least one sequence of the proxy.
    """
    assert isinstance(proxy, Proxy), "a proxy has a method train(run, device)"
    _check_recipe(proxy, "proxy")
    base = tiny_run(folder, n_tokens)
    _check_metrics(proxy.train(base, device), base)
    assert base.save is not None
    assert any(Path(base.save).iterdir()), "the trained model is in the folder `save`"
    assert not Path(base.checkpoints).exists(), "a run that ends well removes its checkpoints"

    continued = dataclasses.replace(base, start=base.save, save=None, seed=1)
    first = proxy.train(continued, device)
    _check_metrics(first, continued)
    again = proxy.train(continued, device)
    assert first == again, f"equal runs give equal metrics; found {first} and {again}"
    other = dataclasses.replace(continued, weights={"letters": 0.0, "numbers": 1.0})
    assert proxy.train(other, device) != first, "another mixture gives other metrics"


def check_predictor(predictor: Predictor) -> None:
    """Fit a predictor on a small made-up metric, in two orders, with and without known noise.

    Where its `fit` takes `extra`, a feature that says what the weights hardly show must help.
    """
    assert isinstance(predictor, Predictor), "a predictor has fit(weights_TK, values_T, noise_T)"
    _check_recipe(predictor, "predictor")
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.full(5, 0.5), size=24)
    values_T = 1.0 + weights_TK[:, 0] - weights_TK[:, 1] ** 2 + 0.01 * random.normal(size=24)
    elsewhere_MK = random.dirichlet(np.ones(5), size=7)
    for noise_T in (np.zeros(24), np.full(24, 0.01)):
        _check_fits(predictor.fit, (weights_TK, values_T, noise_T), elsewhere_MK)
    if "extra" in inspect.signature(predictor.fit).parameters:
        _check_extra(predictor)


def check_searcher(searcher: Searcher, predictor: Predictor | None = None) -> None:
    """Let a searcher spend three small rounds in a planted world, and answer.

    Args:
        searcher: the recipe.
        predictor: whom it may ask; None: a Gaussian process.
    """
    assert isinstance(searcher, Searcher), "a searcher has propose(...) and answer(known, problem)"
    _check_recipe(searcher, "searcher")
    world = PlantedWorld.of(5, 2, noise=0.1, seed=0)
    cfg = load(settings=["search.trials_per_round=[8, 5, 3]", "search.candidates=200"]).search
    problem = Problem(world.space, None, predictor or GPPredictor(), searcher, cfg)
    known = Trials.from_rows([], world.space.domains, ())
    rows = [world.trial(w_K, 0, method, s) for method, w_K, s in anchors(world.space, 2)]
    for round_, n in enumerate(cfg.trials_per_round):
        asked_MK = _answered(problem, known, round_, n)
        inside_MK = world.space.project(asked_MK)
        rows += [world.trial(w_K, round_, "proposal", 0) for w_K in inside_MK]
        known, problem = world.trials(rows), problem.scored_by(world.objective)
    _answered(problem, known)


def _answered(
    problem: Problem, known: Trials, round_: int | None = None, n: int | None = None
) -> Array:
    """What a searcher proposes for a round, or its answer: usable, and the same when asked again.

    Asked again are a copy of it, about the same trials, and itself, about the trials in another
    order.
    """

    def ask(searcher: Searcher, trials: Trials) -> Array:
        fresh = dataclasses.replace(problem)  # what was fitted for one problem is not used again
        if round_ is None or n is None:
            return np.asarray(searcher.answer(trials, fresh))
        return np.asarray(searcher.propose(trials, round_, n, fresh))

    what = "the answer" if round_ is None else f"the proposal for round {round_}"
    shape = tuple(size for size in (n, len(known.domains)) if size is not None)
    given = known.weights_TK.copy(), known.metrics_TQ.copy()
    found = ask(problem.searcher, known)
    assert found.shape == shape, f"{what} has shape {shape}; found {found.shape}"
    assert np.isfinite(found).all(), f"{what} is finite"
    assert (found >= 0.0).all(), f"{what} has no negative weight"
    assert found.any(axis=-1).all(), f"{what} has no mixture of zeros"
    for before, after in zip(given, (known.weights_TK, known.metrics_TQ), strict=True):
        assert np.array_equal(before, after), f"{what} leaves the trials as they are"
    again = ask(pickle.loads(pickle.dumps(problem.searcher)), known)
    assert again.tobytes() == found.tobytes(), f"{what} depends on the seed and the trials alone"
    turned = ask(problem.searcher, _turned(known))
    assert turned.tobytes() == found.tobytes(), f"{what} does not depend on the order of trials"
    return found


def _turned(trials: Trials) -> Trials:
    """The same trials, last ones first."""
    return dataclasses.replace(
        trials,
        weights_TK=trials.weights_TK[::-1].copy(),
        metrics_TQ=trials.metrics_TQ[::-1].copy(),
        rounds_T=trials.rounds_T[::-1].copy(),
        methods_T=trials.methods_T[::-1],
        seeds_T=trials.seeds_T[::-1].copy(),
        doubt_T=trials.doubt_T[::-1].copy(),
    )


def _check_recipe(plugin: Any, kind: str) -> None:
    """A recipe names its results by its fields, and travels to the workers."""
    frozen = getattr(getattr(plugin, "__dataclass_params__", None), "frozen", False)
    assert frozen, f"a {kind} is a frozen dataclass: its fields are its recipe"
    assert pickle.loads(pickle.dumps(plugin)) == plugin, f"a {kind} travels to workers as itself"


def _check_fits(
    fit: Callable[..., Predict], trials: tuple[Array, Array, Array], elsewhere_MK: Array
) -> None:
    """Finite answers, the same ones in any order, and arguments that are left alone."""
    given = tuple(array.copy() for array in trials)
    mean_M, std_M = fit(*given)(elsewhere_MK)
    for name, values in (("mean", mean_M), ("std", std_M)):
        shape = (len(elsewhere_MK),)
        assert values.shape == shape, f"the {name} has shape (M,); found {values.shape}"
        assert np.isfinite(values).all(), f"the {name} is finite"
    assert (std_M >= 0.0).all(), "a standard deviation is not negative"
    for before, after in zip(trials, given, strict=True):
        assert np.array_equal(before, after), "fit leaves its arguments as they are"
    order = np.random.default_rng(1).permutation(len(trials[0]))
    again_M, std_again_M = fit(*(array[order] for array in trials))(elsewhere_MK)
    assert np.array_equal(mean_M, again_M), "the order of trials changes nothing"
    assert np.array_equal(std_M, std_again_M), "the order of trials changes no spread"


def _check_extra(predictor: Predictor) -> None:
    """A feature that tells the metric, in another unit, beside weights that hardly do."""
    random = np.random.default_rng(2)
    weights_TK = random.dirichlet(np.ones(5), size=96)
    waves_K = np.array([40.0, -25.0, 10.0, 0.0, 0.0])

    def extra(weights_MK: Array) -> Array:
        return np.asarray(50.0 + 3.0 * np.sin(weights_MK @ waves_K)[:, None])

    values_T = weights_TK[:, 0] + extra(weights_TK)[:, 0] + 0.1 * random.normal(size=96)
    trials = (weights_TK[:64], values_T[:64], np.zeros(64))
    _check_fits(functools.partial(predictor.fit, extra=extra), trials, weights_TK[64:])
    blind_M, _ = predictor.fit(*trials)(weights_TK[64:])
    told_M, _ = predictor.fit(*trials, extra=extra)(weights_TK[64:])
    blind, told = (_correlation(mean_M, values_T[64:]) for mean_M in (blind_M, told_M))
    assert told > blind, (
        f"a feature that tells the metric helps: correlation with unseen trials is {told:.3f} with "
        f"it and {blind:.3f} without"
    )


def _correlation(one_M: Array, other_M: Array) -> float:
    """Pearson's, 0 where either is constant."""
    one_M, other_M = one_M - one_M.mean(), other_M - other_M.mean()
    length = float(np.linalg.norm(one_M) * np.linalg.norm(other_M))
    return float(one_M @ other_M) / length if length > 0.0 else 0.0


def _check_metrics(metrics: dict[str, float], run: ProxyRun) -> None:
    wanted = {"letters.bpb", "numbers.bpb", "numbers.prob", "numbers.accuracy"}
    wanted.add("numbers.accuracy_norm")
    assert wanted <= set(metrics), f"metrics are named <task>.<metric>; missing: {wanted}"
    for name, value in metrics.items():
        assert isinstance(value, float), f"{name} is {value!r}, not a float"
        assert math.isfinite(value), f"{name} is {value}"
    for target in run.targets:
        assert metrics[f"{target.name}.bpb"] > 0.0, f"{target.name}.bpb is not above 0"


def tiny_run(folder: Path, n_tokens: int) -> ProxyRun:
    """Two domains, a tokenizer, a text target and a multiple-choice target, written to a folder.

    Args:
        folder: where the files go.
        n_tokens: of the run.

    Returns:
        A run from the beginning, half of each domain, whose model is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    words = {
        "letters": ["red", "green", "blue", "tree", "river", "stone"],
        "numbers": ["one", "two", "three", "four", "five", "six"],
    }
    texts = {
        domain: " ".join(random.choice(some, size=4_000)) + "." for domain, some in words.items()
    }
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(train_json(texts.values(), vocab_size=280), encoding="utf-8")
    return ProxyRun(
        weights={"letters": 0.5, "numbers": 0.5},
        shards=_shards(folder, texts, str(tokenizer)),
        tokenizer=str(tokenizer),
        n_tokens=n_tokens,
        seed=0,
        start=None,
        save=str(folder / "model"),
        checkpoints=str(folder / "checkpoints"),
        checkpoint_steps=2,
        targets=_targets(folder, texts["letters"][:500]),
    )


def _shards(folder: Path, texts: dict[str, str], tokenizer: str) -> dict[str, str]:
    from tokenizers import Tokenizer

    shards = {domain: str(folder / f"{domain}.npy") for domain in texts}
    for domain, text in texts.items():
        ids = Tokenizer.from_file(tokenizer).encode(text).ids
        np.save(shards[domain], np.array(ids, dtype=np.uint16))
    return shards


def _targets(folder: Path, text: str) -> tuple[Target, ...]:
    choices: list[dict[str, object]] = [
        {"context": f"one two {word}", "choices": [" four five", " river"], "label": 0}
        for word in ("one", "two", "three", "four", "five", "six")
    ]
    letters = _json_lines(folder / "letters.jsonl", [{"text": text}])
    numbers = _json_lines(folder / "numbers.jsonl.gz", choices)
    return (
        Target(name="letters", kind="text", path=letters),
        Target(name="numbers", kind="choices", path=numbers, limit=4),
    )


def _json_lines(path: Path, rows: list[dict[str, object]]) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)
