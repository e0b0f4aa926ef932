"""What every plug-in promises, as checks that a plug-in of yours can be run through.

Each check raises AssertionError with the promise that was broken.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
import pickle
from pathlib import Path

import numpy as np

from climb.predictor import Predictor
from climb.proxy import Proxy, ProxyRun, Target
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
    assert dataclasses.is_dataclass(proxy), "a proxy is a dataclass: its fields are its recipe"
    assert proxy.__dataclass_params__.frozen, "a proxy is frozen: its recipe names its results"
    assert pickle.loads(pickle.dumps(proxy)) == proxy, "a proxy travels to the workers as itself"
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
    """Fit a predictor on a small made-up metric, in two orders, with and without known noise."""
    assert isinstance(predictor, Predictor), "a predictor has fit(weights_TK, values_T, noise_T)"
    assert dataclasses.is_dataclass(predictor), "a predictor is a dataclass"
    assert predictor.__dataclass_params__.frozen, "a predictor is frozen: its recipe is its fields"
    assert pickle.loads(pickle.dumps(predictor)) == predictor, "a predictor travels as itself"
    random = np.random.default_rng(0)
    weights_TK = random.dirichlet(np.full(5, 0.5), size=24)
    values_T = 1.0 + weights_TK[:, 0] - weights_TK[:, 1] ** 2 + 0.01 * random.normal(size=24)
    elsewhere_MK = random.dirichlet(np.ones(5), size=7)
    for noise_T in (np.zeros(24), np.full(24, 0.01)):
        given = tuple(array.copy() for array in (weights_TK, values_T, noise_T))
        mean_M, std_M = predictor.fit(*given)(elsewhere_MK)
        for name, values in (("mean", mean_M), ("std", std_M)):
            assert values.shape == (7,), f"the {name} has shape (M,); found {values.shape}"
            assert np.isfinite(values).all(), f"the {name} is finite"
        assert (std_M >= 0.0).all(), "a standard deviation is not negative"
        for before, after in zip((weights_TK, values_T, noise_T), given, strict=True):
            assert np.array_equal(before, after), "fit leaves its arguments as they are"
        order = random.permutation(24)
        again_M, std_again_M = predictor.fit(weights_TK[order], values_T[order], noise_T[order])(
            elsewhere_MK
        )
        assert np.array_equal(mean_M, again_M), "the order of trials changes nothing"
        assert np.array_equal(std_M, std_again_M), "the order of trials changes no spread"


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
