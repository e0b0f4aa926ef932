"""The stream of a mixture: exact shares, fair repetition, one draw for all mixtures."""

import numpy as np
import pytest

from climb.errors import ComponentError
from climb.proxy.data import sequences

L = 8


@pytest.fixture
def shards(tmp_path):
    """Domain a holds 0..799, b 1000..1239, c only 5 tokens: less than a sequence."""
    made = {"a": np.arange(800), "b": np.arange(1000, 1240), "c": np.arange(2000, 2005)}
    for name, ids in made.items():
        np.save(tmp_path / f"{name}.npy", ids.astype(np.uint16))
    return {name: str(tmp_path / f"{name}.npy") for name in made}


def domains_of(ids_SL):
    return [str("abc"[int(i)]) for i in ids_SL[:, 0] // 1000]


def test_every_domain_gets_its_exact_share_of_the_sequences(shards):
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    stream = sequences(weights, shards, 100, L, seed=3, stage="base")
    got = domains_of(stream.batch(0, 100))
    assert {name: got.count(name) for name in "abc"} == {"a": 50, "b": 30, "c": 20}


def test_sequences_that_do_not_divide_are_rounded_to_the_wanted_total(shards):
    stream = sequences({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, shards, 10, L, seed=0, stage="base")
    got = domains_of(stream.batch(0, 10))
    assert len(stream) == 10
    assert sorted(got.count(name) for name in "abc") == [3, 3, 4]


def test_any_stretch_holds_about_the_mixture(shards):
    stream = sequences({"a": 0.75, "b": 0.25}, shards, 400, L, seed=1, stage="base")
    for first in range(0, 400, 40):
        share = domains_of(stream.batch(first, first + 40)).count("b") / 40
        assert abs(share - 0.25) < 0.08  # a fair coin would leave this band in 1 of 4 stretches


def test_nothing_is_read_twice_before_everything_was_read_once(shards):
    stream = sequences({"b": 1.0}, shards, 90, L, seed=0, stage="base")  # b: 30 windows
    for epoch in range(3):
        read = stream.batch(30 * epoch, 30 * epoch + 30)
        assert sorted(read.ravel()) == list(range(1000, 1240))


def test_every_epoch_cuts_the_shard_elsewhere(shards):
    stream = sequences({"b": 1.0}, shards, 300, L, seed=0, stage="base")
    cuts = {int(stream.batch(30 * epoch, 30 * epoch + 1)[0, 0] % L) for epoch in range(10)}
    assert len(cuts) > 3


def test_a_shard_shorter_than_a_sequence_is_read_round_and_round(shards):
    read = sequences({"c": 1.0}, shards, 20, L, seed=0, stage="base").batch(0, 20)
    assert set(read.ravel()) == set(range(2000, 2005))
    steps = np.diff(read, axis=1)
    assert set(steps.ravel()) == {1, -4}


def test_a_batch_does_not_depend_on_what_was_read_before(shards):
    weights = {"a": 0.6, "b": 0.4}
    first = sequences(weights, shards, 50, L, seed=5, stage="base")
    second = sequences(dict(reversed(weights.items())), shards, 50, L, seed=5, stage="base")
    whole = first.batch(0, 50)
    np.testing.assert_array_equal(second.batch(30, 40), whole[30:40])


def test_mixtures_with_one_seed_read_the_same_windows_in_the_same_order(shards):
    few = sequences({"a": 0.4, "b": 0.6}, shards, 100, L, seed=5, stage="base").batch(0, 100)
    many = sequences({"a": 0.7, "b": 0.3}, shards, 100, L, seed=5, stage="base").batch(0, 100)
    few_a, many_a = few[few[:, 0] < 1000], many[many[:, 0] < 1000]
    np.testing.assert_array_equal(few_a, many_a[: len(few_a)])


@pytest.mark.parametrize("change", [{"seed": 6}, {"stage": "continued"}])
def test_another_seed_or_stage_reads_in_another_order(shards, change):
    same = {"seed": 5, "stage": "base"}
    one = sequences({"a": 1.0}, shards, 100, L, **same).batch(0, 100)
    other = sequences({"a": 1.0}, shards, 100, L, **{**same, **change}).batch(0, 100)
    assert (one[:, 0] == other[:, 0]).mean() < 0.2


def test_a_domain_without_weight_needs_no_shard(shards):
    stream = sequences({"a": 1.0, "gone": 0.0}, shards, 10, L, seed=0, stage="base")
    assert domains_of(stream.batch(0, 10)) == ["a"] * 10


def test_a_missing_shard_names_the_domain(shards):
    with pytest.raises(ComponentError, match="domain 'gone' has a weight but no shard"):
        sequences({"a": 0.5, "gone": 0.5}, shards, 10, L, seed=0, stage="base")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.empty(0, dtype=np.uint16), "domain 'x' is empty"),
        (np.zeros(4, dtype=np.float32), "float32 of shape"),
        (np.zeros((2, 2), dtype=np.uint16), r"uint16 of shape \(2, 2\)"),
        (np.zeros(4, dtype=np.int64), "int64 of shape"),
    ],
)
def test_a_wrong_shard_names_domain_and_file(tmp_path, content, message):
    np.save(tmp_path / "x.npy", content)
    with pytest.raises(ComponentError, match=message):
        sequences({"x": 1.0}, {"x": str(tmp_path / "x.npy")}, 4, L, seed=0, stage="base")


def test_a_file_that_is_no_array_names_domain_and_file(tmp_path):
    (tmp_path / "x.npy").write_text("text")
    with pytest.raises(ComponentError, match=r"x\.npy of domain 'x' cannot be read"):
        sequences({"x": 1.0}, {"x": str(tmp_path / "x.npy")}, 4, L, seed=0, stage="base")
