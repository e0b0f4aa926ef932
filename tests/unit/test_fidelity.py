"""Fidelities: what an n-gram model and merged proxies measure on a mixture."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
import torch

from climb.errors import ConfigError
from climb.fidelity.merged import MergedFidelity, ModelMerger
from climb.fidelity.ngram import NGramFidelity
from climb.proxy.evaluate import measure
from climb.proxy.language_model import make_reproducible
from climb.proxy.model_files import open_model
from climb.proxy.targets import load_items
from climb.testing.contracts_fidelity import build_tiny_inputs, check_fidelity

NGRAM = NGramFidelity(order=3, strength=5.0, trial_factor=2.0)
MERGED = MergedFidelity(component_tokens=2_048, mixtures=4)


@pytest.fixture(scope="module")
def ngram_inputs(tmp_path_factory):
    return build_tiny_inputs(NGRAM, tmp_path_factory.mktemp("ngram"))


@pytest.fixture(scope="module")
def merged_inputs(tmp_path_factory):
    return build_tiny_inputs(MERGED, tmp_path_factory.mktemp("merged"))


def compute_plain_bpb(inputs, target, weights, fidelity):
    """Bits per byte of a target, by counting with dictionaries."""
    run = inputs.run
    shards = {name: np.load(path).tolist() for name, path in run.shards.items()}
    tokens = {
        name: inputs.base_tokens * run.weights[name] + fidelity.trial_factor * run.n_tokens * weight
        for name, weight in weights.items()
    }

    found = {
        (name, n): Counter(zip(*(ids[i:] for i in range(n)), strict=False))
        for name, ids in shards.items()
        for n in range(1, fidelity.order + 1)
    }

    def count(ngram):
        if not ngram:
            return sum(tokens.values())
        n = len(ngram)
        return sum(tokens[name] / len(ids) * found[name, n][ngram] for name, ids in shards.items())

    def predict(token, history):
        size = run.tokenizer.open().get_vocab_size()
        shorter = predict(token, history[1:]) if history else 1.0 / size
        numerator = count((*history, token)) + fidelity.strength * shorter
        return numerator / (count(history) + fidelity.strength)

    bits = n_bytes = 0.0
    for item in load_items(target, run.tokenizer, 2_048):
        for passage in item.passages:
            right = passage.continuations[item.label]
            ids = [*[passage.context[0]] * 2, *passage.context, *right]
            for i in range(len(ids) - len(right), len(ids)):
                bits -= math.log2(predict(ids[i], tuple(ids[i - fidelity.order + 1 : i])))
        n_bytes += item.n_bytes[item.label]
    return bits / n_bytes


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kind", ["text", "choices"])
def test_ngram_metrics_equal_those_of_plain_counting(ngram_inputs, order, kind):
    fidelity = dataclasses.replace(NGRAM, order=order)
    [target] = [target for target in ngram_inputs.run.targets if target.kind == kind]
    inputs = dataclasses.replace(
        ngram_inputs, run=dataclasses.replace(ngram_inputs.run, targets=(target,))
    )
    found = fidelity.load(inputs, "cpu")(np.array([[0.3, 0.7]]))
    expected = compute_plain_bpb(inputs, target, {"letters": 0.3, "numbers": 0.7}, fidelity)
    assert found[0, 0] == pytest.approx(expected, rel=1e-9)


def test_an_ngram_model_prefers_the_domain_of_the_target(ngram_inputs):
    metrics_MQ = NGRAM.load(ngram_inputs, "cpu")(np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert NGRAM.list_metrics(ngram_inputs.run) == ("letters.bpb", "numbers.bpb")
    assert metrics_MQ[0, 0] < metrics_MQ[1, 0]


def test_an_ngram_model_reads_only_the_first_tokens_of_a_shard(ngram_inputs, tmp_path):
    few = dataclasses.replace(NGRAM, max_tokens=50)
    shards = {}
    for name, path in ngram_inputs.run.shards.items():
        shards[name] = str(tmp_path / f"{name}.npy")
        np.save(shards[name], np.load(path)[:50])
    cut = dataclasses.replace(
        ngram_inputs, run=dataclasses.replace(ngram_inputs.run, shards=shards)
    )
    weights_MK = np.array([[0.5, 0.5]])
    found_MQ = few.load(ngram_inputs, "cpu")(weights_MK)
    np.testing.assert_array_equal(found_MQ, NGRAM.load(cut, "cpu")(weights_MK))


def test_ngrams_too_long_for_the_vocabulary_are_refused(ngram_inputs):
    with pytest.raises(ConfigError, match=r"order is 8, but with .* more than 7 tokens do not fit"):
        dataclasses.replace(NGRAM, order=8).load(ngram_inputs, "cpu")


def test_the_merged_model_of_one_domain_is_its_component(merged_inputs):
    run = merged_inputs.run
    found_MQ = MERGED.load(merged_inputs, "cpu")(np.eye(2))
    for row, name in zip(found_MQ, merged_inputs.domains, strict=True):
        with make_reproducible("cpu", 0, "float32"):
            component = open_model(merged_inputs.components[name], 280)
            metrics = measure(component, run.targets, run.tokenizer, 32)
        expected = [metrics[metric] for metric in MERGED.list_metrics(run)]
        np.testing.assert_allclose(row, expected, rtol=1e-5)
    assert np.abs(found_MQ[0] - found_MQ[1]).max() > 1e-3


def test_merging_adds_weighted_differences_to_the_base_checkpoint(merged_inputs):
    base, *parts = (
        open_model(folder, 280)
        for folder in (merged_inputs.run.start, *merged_inputs.components.values())
    )
    expected = {
        name: p + 0.25 * (dict(parts[0].named_parameters())[name] - p)
        + 0.75 * (dict(parts[1].named_parameters())[name] - p)
        for name, p in base.named_parameters()
    }  # fmt: skip
    components = dict(zip(("first", "second"), parts, strict=True))
    merger = ModelMerger.build(open_model(merged_inputs.run.start, 280), components, "cpu")
    for weights in ([1.0, 0.0], [0.25, 0.75]):  # a merge does not build on the one before
        merger.merge(np.array(weights))
    for name, parameter in merger.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name])


def test_components_of_another_shape_are_refused(merged_inputs):
    base = open_model(merged_inputs.run.start, 280)
    other = dict(base.named_parameters())
    name = next(iter(other))
    part = open_model(merged_inputs.run.start, 280)
    part.get_parameter(name).data = part.get_parameter(name).data[:1]
    with pytest.raises(ConfigError, match="parameters of component odd have other names or shapes"):
        ModelMerger.build(base, {"odd": part}, "cpu")


@pytest.mark.parametrize("fidelity", [NGRAM, MERGED])
def test_the_fidelities_keep_the_contract(fidelity, tmp_path):
    check_fidelity(fidelity, tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantFidelity:
    """Measures the same for every mixture."""

    mixtures: int = 4
    component_tokens: int = 0
    names: tuple[str, ...] = ("letters.bpb",)

    def list_metrics(self, run):
        return self.names

    def load(self, inputs, device):
        return lambda weights_MK: np.ones((len(weights_MK), 1))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "another mixture must give other metrics"),
        ({"mixtures": 3}, "mixtures must be at least 4"),
        ({"names": ("poems.bpb",)}, "unknown: poems.bpb"),
        ({"names": ("letters.bpb", "numbers.bpb")}, r"must have shape \(3, 2\)"),
    ],
)
def test_a_fidelity_that_breaks_a_rule_violates_the_contract(fields, rule, tmp_path):
    with pytest.raises(AssertionError, match=rule):
        check_fidelity(ConstantFidelity(**fields), tmp_path)


def test_merged_proxies_are_measured_with_the_sequence_length_of_the_proxy(merged_inputs):
    weights_MK = np.array([[0.5, 0.5]])
    found_MQ = MERGED.load(merged_inputs, "cpu")(weights_MK)
    stated = dataclasses.replace(MERGED, sequence=32)
    np.testing.assert_array_equal(stated.load(merged_inputs, "cpu")(weights_MK), found_MQ)
    unknown = dataclasses.replace(merged_inputs, sequence=None)
    with pytest.raises(ConfigError, match=r"MergedFidelity\.sequence is null, and no sequence"):
        MERGED.load(unknown, "cpu")
