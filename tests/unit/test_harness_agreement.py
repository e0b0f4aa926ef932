"""Accuracy and normalized accuracy equal those of EleutherAI's lm_eval, item by item."""

import importlib
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from climb.proxy.evaluate import score_items
from climb.proxy.llama import LlamaProxy
from climb.tokenizer import TokenizerFile, train_json

pytest.importorskip("lm_eval", reason="needs lm_eval: make bench installs requirements/bench.txt")
pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SEQUENCE, VOCABULARY, N_ITEMS = 128, 320, 40
WORDS = [
    "the",
    "a",
    "cat's",
    "mat",
    "—",
    "naïve",
    "café",
    "日本",
    "x²",
    "sat,",
    "on;",
    "(of)",
    '"rat"',
    "and",
    "ate",
    "it",
    "don't",
    "12",
    "3.5",
]


@pytest.fixture(scope="module")
def harness():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("harness")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_json([" ".join(WORDS)] * 20, VOCABULARY))
    return TokenizerFile(str(path))


def make_llama():
    recipe = LlamaProxy(
        hidden=16, layers=2, heads=2, sequence=SEQUENCE, batch=4, learning_rate=1e-2
    )
    return recipe.create_model(VOCABULARY)


def make_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": SEQUENCE}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes))


def make_items(n_choices):
    """Questions of all lengths; some choices end in a space or have characters of several bytes."""
    rng = random.Random(n_choices)

    def phrase(longest):
        return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))

    return [
        {
            "context": f"Question: {phrase(12)}?\nAnswer:",
            "choices": [f" {phrase(5)}{' ' * (number % 5 == 0)}" for _ in range(n_choices)],
            "label": rng.randrange(n_choices),
        }
        for number in range(N_ITEMS)
    ]


@pytest.mark.parametrize("make_model", [make_llama, make_gpt2])
@pytest.mark.parametrize(("task", "n_choices"), [("arc_easy", 4), ("piqa", 2)])
def test_every_item_has_the_accuracies_of_lm_eval(
    harness, tokenizer, tmp_path, monkeypatch, make_model, task, n_choices
):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    torch.manual_seed(0)
    model = make_model().eval()
    for parameter in model.parameters():  # so that the choices differ clearly
        torch.nn.init.normal_(parameter, std=0.3)
    items = make_items(n_choices)
    scores = score_items(model, harness.write_target(task, items, tmp_path), tokenizer, SEQUENCE)
    ours = harness.order_like(items, scores)
    samples = harness.score_with_harness(
        harness.open_model(model, tokenizer, tmp_path, batch=8),
        harness.load_task(task, items, tmp_path),
    )
    right = [
        sample["filtered_resps"][item["label"]][0]
        for item, sample in zip(items, samples, strict=True)
    ]
    bits = -np.array(right) / math.log(2)
    np.testing.assert_allclose([row[0] for row in ours], bits, rtol=1e-4)
    assert [row[1] for row in ours] == [sample["acc"] for sample in samples]
    assert [row[2] for row in ours] == [sample["acc_norm"] for sample in samples]
    # The items tell both accuracies apart, and right items from wrong ones.
    assert any(row[1] != row[2] for row in ours)
    assert 0 < sum(row[1] for row in ours) < N_ITEMS
