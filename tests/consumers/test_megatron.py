"""Megatron's own loader reads an export: the right tokens, with the weights of the mixture."""

import json

import pytest
from token_export import WEIGHTS, make_documents, write_export, write_shard

from climb.export import Tokenization
from climb.export.formats.megatron import Megatron

READ_DOCUMENTS = """
from megatron.core.datasets.indexed_dataset import IndexedDataset
dataset = IndexedDataset(sys.argv[1])
print(json.dumps([dataset[i].tolist() for i in range(len(dataset))]))
print(json.dumps(dataset.document_indices.tolist()))
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = write_export(Megatron(), tmp_path, kind=kind)
    expected = WEIGHTS if kind == "recipe" else {"mixed": 1.0}
    assert read_shares("megatron", Megatron(), contents) == pytest.approx(expected, abs=0.001)


def test_a_wrong_weight_in_the_lists_is_seen(tmp_path, read_shares):
    contents = write_export(Megatron(), tmp_path)
    blend = json.loads((tmp_path / "blend.json").read_text())
    blend["train"][0] = str(3 * float(blend["train"][0]))
    (tmp_path / "blend.json").write_text(json.dumps(blend))
    (tmp_path / "blend.txt").write_text(" ".join(blend["train"]))
    assert read_shares("megatron", Megatron(), contents)["long books"] > 0.6


def test_a_domain_without_weight_is_not_read(tmp_path, read_shares):
    contents = write_export(
        Megatron(), tmp_path, weights={"long books": 0.0, "notes": 0.4, "web/news": 0.6}
    )
    shares = read_shares("megatron", Megatron(), contents)
    assert shares == pytest.approx({"notes": 0.4, "web/news": 0.6}, abs=0.001)


@pytest.mark.parametrize("vocab_size", [1000, 1 << 16, 100_000])
def test_each_document_has_its_tokens(tmp_path, run_consumer, rng, vocab_size):
    tokenization = Tokenization("test", vocab_size, vocab_size - 1)
    documents = make_documents(rng, 50, 20, tokenization)
    write_shard(Megatron(), tmp_path, "train/part-00000", documents, tokenization)
    output = run_consumer("megatron", READ_DOCUMENTS, str(tmp_path / "train/part-00000"))
    read, starts = map(json.loads, output.splitlines()[-2:])
    assert read == [ids.tolist() for ids in documents]
    assert starts == list(range(21))


def test_the_loader_leaves_no_files_in_the_export(tmp_path, read_shares):
    contents = write_export(Megatron(), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    read_shares("megatron", Megatron(), contents)
    assert sorted(tmp_path.rglob("*")) == before
