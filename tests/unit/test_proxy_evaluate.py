"""Metrics on targets, compared with metrics computed directly from a model's logits."""

import json
import math

import numpy as np
import pytest
import torch

from climb.errors import TrialError
from climb.proxy import Target
from climb.proxy import evaluate as evaluation
from climb.proxy.evaluate import ItemScores, measure, score_continuations, score_items
from climb.proxy.language_model import accumulate_gradients, make_reproducible
from climb.proxy.llama import LlamaProxy
from climb.proxy.targets import Passage
from climb.tokenizer import TokenizerFile, train_json

SEQUENCE = 32
RECIPE = LlamaProxy(hidden=16, layers=2, heads=2, sequence=SEQUENCE, batch=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_json(["the cat sat on the mat and ate the rat"] * 20, 280))
    return TokenizerFile(str(path))


@pytest.fixture
def model():
    with make_reproducible("cpu", 0, "float32"):
        model = RECIPE.create_model(280)
        for parameter in model.parameters():  # far from uniform, so that differences are visible
            torch.nn.init.normal_(parameter, std=0.3)
        return model


def write_target(path, rows, kind="choices"):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Target(name="task", kind=kind, path=str(path))


def compute_plain_bits(model, context, continuation):
    """Compute -log2 likelihood directly: one row, all logits."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*context, *continuation]])).logits[0].double()
    nats = torch.log_softmax(logits, dim=-1)
    positions = range(len(context) - 1, len(context) + len(continuation) - 1)
    return -sum(
        float(nats[i, token]) for i, token in zip(positions, continuation, strict=True)
    ) / math.log(2)


def draw_passages(seed=0):
    random = np.random.default_rng(seed)

    def ids(length):
        return tuple(random.integers(0, 280, length).tolist())

    sizes = [(1, (1, 3)), (9, (4, 1, 7)), (20, (2, 2)), (5, (8,)), (24, (8, 1))]
    return [
        Passage(ids(size), tuple(ids(n) for n in continuations)) for size, continuations in sizes
    ]


@pytest.mark.parametrize("sharing", [("llama",), ()], ids=["shared context", "one row a choice"])
def test_each_continuation_is_scored_independently_after_its_context(model, monkeypatch, sharing):
    monkeypatch.setattr(evaluation, "CONTEXT_SHARING_ARCHITECTURES", sharing)
    passages = draw_passages()
    expected = [
        compute_plain_bits(model, p.context, continuation)
        for p in passages
        for continuation in p.continuations
    ]
    # float32 sums in another order; a token has about 10 bits.
    np.testing.assert_allclose(score_continuations(model, passages), expected, rtol=1e-5)


def test_scores_do_not_depend_on_the_batches(model, monkeypatch):
    passages = draw_passages()
    together = score_continuations(model, passages)
    monkeypatch.setitem(evaluation.MAX_BATCH_TOKENS, "cpu", 1)
    np.testing.assert_allclose(score_continuations(model, passages), together, rtol=1e-5)


def test_measuring_keeps_the_training_mode_of_a_model(model):
    model.train()
    score_continuations(model, draw_passages())
    assert model.training


def test_metrics_of_a_uniform_model_equal_their_closed_form(tmp_path, tokenizer):
    model = RECIPE.create_model(280)
    torch.nn.init.zeros_(model.lm_head.weight)
    rows = [{"context": "x", "choices": ["qqqq", "zz"], "label": i % 2} for i in range(4)]
    target = write_target(tmp_path / "t.jsonl", rows)
    metrics = measure(model, [target], tokenizer, SEQUENCE)
    # Every token costs log2(280) bits; q and z are single bytes that were never merged.
    assert metrics["task.bpb"] == pytest.approx(math.log2(280), rel=1e-5)
    assert metrics["task.prob"] == pytest.approx(0.5, rel=1e-5)
    assert metrics["task.accuracy"] == 0.5  # the shorter one always wins


def test_bits_per_byte_is_the_sum_of_bits_over_the_sum_of_bytes():
    scores = ItemScores(
        bits_N=np.array([10.0, 2.0]),
        bytes_N=np.array([2.0, 4.0]),
        prob_N=np.array([0.2, 0.6]),
        correct_N=np.array([0.0, 1.0]),
        correct_norm_N=np.array([1.0, 1.0]),
    )
    choices = scores.compute_metrics(Target(name="t", kind="choices", path=""))
    expected = {"t.bpb": 2.0, "t.prob": 0.4, "t.accuracy": 0.5, "t.accuracy_norm": 1.0}
    assert choices == pytest.approx(expected)
    assert set(scores.compute_metrics(Target(name="t", kind="text", path=""))) == {"t.bpb"}


def test_scores_of_an_item_follow_from_the_likelihoods_of_its_choices(model, tmp_path, tokenizer):
    rows = [
        {"context": "the cat", "choices": [" sat on the mat", " ate", " and the rat"], "label": i}
        for i in range(3)
    ]
    scores = score_items(model, write_target(tmp_path / "t.jsonl", rows), tokenizer, SEQUENCE)
    sizes = np.array([15, 4, 12])
    by_label = {int(size): i for i, size in enumerate(scores.bytes_N)}
    bits = np.array([scores.bits_N[by_label[int(size)]] for size in sizes])
    prob = np.array([scores.prob_N[by_label[int(size)]] for size in sizes])
    odds = np.exp2(-bits / sizes)
    np.testing.assert_allclose(prob, odds / odds.sum(), rtol=1e-9)
    right = [scores.correct_N[by_label[int(size)]] for size in sizes]
    np.testing.assert_array_equal(right, bits == bits.min())
    right_norm = [scores.correct_norm_N[by_label[int(size)]] for size in sizes]
    per_character = bits / (sizes - 1)  # the space before a choice does not count
    np.testing.assert_array_equal(right_norm, per_character == per_character.min())


def test_bits_of_a_text_are_the_sum_over_its_windows(model, tmp_path, tokenizer):
    text = "the cat sat on the mat. " * 10
    target = write_target(tmp_path / "t.jsonl", [{"text": text}, {"text": "rat"}], "text")
    metrics = measure(model, [target], tokenizer, SEQUENCE)
    items = evaluation.load_items(target, tokenizer, SEQUENCE)
    bits = sum(
        compute_plain_bits(model, p.context, p.continuations[0]) for i in items for p in i.passages
    )
    assert metrics == {"task.bpb": pytest.approx(bits / (len(text) + 3), rel=1e-5)}


def test_training_on_a_text_lowers_its_bits_per_byte(tmp_path, tokenizer):

    text = "the cat sat on the mat and ate the rat"
    target = write_target(tmp_path / "t.jsonl", [{"text": text}], "text")
    ids = [0, *tokenizer.open().encode(text).ids]
    with make_reproducible("cpu", 0, "float32"):
        model = RECIPE.create_model(280)
        before = measure(model, [target], tokenizer, SEQUENCE)["task.bpb"]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            accumulate_gradients(model, torch.tensor([ids[:SEQUENCE]]))
            optimizer.step()
        after = measure(model, [target], tokenizer, SEQUENCE)["task.bpb"]
    assert after < 0.2 < 1.5 < before


def test_gradients_in_chunks_equal_the_gradients_of_the_whole_batch(model, monkeypatch):
    from climb.proxy import language_model

    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 280, (3, 17)))
    expected = model(input_ids=ids, labels=ids).loss
    expected.backward()
    expected_loss = expected.item()
    expected_gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    monkeypatch.setitem(language_model.MAX_CHUNK_LOGITS, "cpu", 280 * 5)
    assert float(accumulate_gradients(model, ids)) == pytest.approx(expected_loss, rel=1e-5)
    for parameter, gradient in zip(model.parameters(), expected_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_the_error_for_nan_likelihoods_names_the_target(model, tmp_path, tokenizer):
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    target = write_target(tmp_path / "t.jsonl", [{"text": "the cat"}], "text")
    with pytest.raises(TrialError, match="target 'task': the model returns NaN"):
        measure(model, [target], tokenizer, SEQUENCE)
