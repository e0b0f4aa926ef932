"""The training stream of a mixture: exact shares, even repetition, the same order for a seed."""

import numpy as np
import pytest

from climb.errors import ComponentError
from climb.proxy.data import plan_stream

L = 8


@pytest.fixture
def shards(tmp_path):
    """Domain a has tokens 0..799, b has 1000..1239, and c only 5 tokens, less than a sequence."""
    ids_by_name = {"a": np.arange(800), "b": np.arange(1000, 1240), "c": np.arange(2000, 2005)}
    for name, ids in ids_by_name.items():
        np.save(tmp_path / f"{name}.npy", ids.astype(np.uint16))
    return {name: str(tmp_path / f"{name}.npy") for name in ids_by_name}


def domains_of(ids_SL):
    return [str("abc"[int(i)]) for i in ids_SL[:, 0] // 1000]


def test_every_domain_gets_its_exact_share_of_the_sequences(shards):
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    stream = plan_stream(weights, shards, 100, L, seed=3, stage="base")
    domains = domains_of(stream.read_batch(0, 100))
    assert {name: domains.count(name) for name in "abc"} == {"a": 50, "b": 30, "c": 20}


def test_shares_are_rounded_to_the_exact_number_of_sequences(shards):
    stream = plan_stream({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, shards, 10, L, seed=0, stage="base")
    domains = domains_of(stream.read_batch(0, 10))
    assert len(stream) == 10
    assert sorted(domains.count(name) for name in "abc") == [3, 3, 4]


def test_every_section_of_the_stream_has_about_the_mixtures_proportions(shards):
    stream = plan_stream({"a": 0.75, "b": 0.25}, shards, 400, L, seed=1, stage="base")
    for first in range(0, 400, 40):
        share = domains_of(stream.read_batch(first, first + 40)).count("b") / 40
        assert abs(share - 0.25) < 0.08  # independent draws would exceed this in 1 of 4 sections


def test_a_token_repeats_only_after_all_tokens_of_its_domain_were_read(shards):
    stream = plan_stream({"b": 1.0}, shards, 90, L, seed=0, stage="base")  # b: 30 windows
    for epoch in range(3):
        read = stream.read_batch(30 * epoch, 30 * epoch + 30)
        assert sorted(read.ravel()) == list(range(1000, 1240))


def test_every_epoch_splits_the_shard_at_another_offset(shards):
    stream = plan_stream({"b": 1.0}, shards, 300, L, seed=0, stage="base")
    cuts = {int(stream.read_batch(30 * epoch, 30 * epoch + 1)[0, 0] % L) for epoch in range(10)}
    assert len(cuts) > 3


def test_a_shard_shorter_than_a_sequence_repeats_within_it(shards):
    read = plan_stream({"c": 1.0}, shards, 20, L, seed=0, stage="base").read_batch(0, 20)
    assert set(read.ravel()) == set(range(2000, 2005))
    steps = np.diff(read, axis=1)
    assert set(steps.ravel()) == {1, -4}


def test_a_batch_does_not_depend_on_earlier_batches(shards):
    weights = {"a": 0.6, "b": 0.4}
    first = plan_stream(weights, shards, 50, L, seed=5, stage="base")
    second = plan_stream(dict(reversed(weights.items())), shards, 50, L, seed=5, stage="base")
    whole = first.read_batch(0, 50)
    np.testing.assert_array_equal(second.read_batch(30, 40), whole[30:40])


def test_mixtures_with_one_seed_read_the_same_windows_in_the_same_order(shards):
    few = plan_stream({"a": 0.4, "b": 0.6}, shards, 100, L, seed=5, stage="base").read_batch(0, 100)
    many = plan_stream({"a": 0.7, "b": 0.3}, shards, 100, L, seed=5, stage="base").read_batch(
        0, 100
    )
    few_a, many_a = few[few[:, 0] < 1000], many[many[:, 0] < 1000]
    np.testing.assert_array_equal(few_a, many_a[: len(few_a)])


@pytest.mark.parametrize("change", [{"seed": 6}, {"stage": "continued"}])
def test_another_seed_or_stage_gives_another_order(shards, change):
    same = {"seed": 5, "stage": "base"}
    one = plan_stream({"a": 1.0}, shards, 100, L, **same).read_batch(0, 100)
    other = plan_stream({"a": 1.0}, shards, 100, L, **{**same, **change}).read_batch(0, 100)
    assert (one[:, 0] == other[:, 0]).mean() < 0.2


def test_a_domain_without_weight_needs_no_shard(shards):
    stream = plan_stream({"a": 1.0, "gone": 0.0}, shards, 10, L, seed=0, stage="base")
    assert domains_of(stream.read_batch(0, 10)) == ["a"] * 10


def test_the_error_for_a_missing_shard_names_the_domain(shards):
    with pytest.raises(ComponentError, match="domain 'gone' has a weight above 0 but no shard"):
        plan_stream({"a": 0.5, "gone": 0.5}, shards, 10, L, seed=0, stage="base")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.empty(0, dtype=np.uint16), "domain 'x' is empty"),
        (np.zeros(4, dtype=np.float32), "float32 of shape"),
        (np.zeros((2, 2), dtype=np.uint16), r"uint16 of shape \(2, 2\)"),
        (np.zeros(4, dtype=np.int64), "int64 of shape"),
    ],
)
def test_the_error_for_an_invalid_shard_names_domain_and_file(tmp_path, content, message):
    np.save(tmp_path / "x.npy", content)
    with pytest.raises(ComponentError, match=message):
        plan_stream({"x": 1.0}, {"x": str(tmp_path / "x.npy")}, 4, L, seed=0, stage="base")


def test_the_error_for_a_file_that_is_not_an_array_names_domain_and_file(tmp_path):
    (tmp_path / "x.npy").write_text("text")
    with pytest.raises(ComponentError, match=r"x\.npy of domain 'x' cannot be read"):
        plan_stream({"x": 1.0}, {"x": str(tmp_path / "x.npy")}, 4, L, seed=0, stage="base")
