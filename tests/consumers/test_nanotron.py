"""Datatrove's own datasets, which nanotron uses, read an export."""

import json

import numpy as np
import pytest
from token_export import WEIGHTS, make_documents, measure_shares, write_export, write_shard

from climb.export import Tokenization
from climb.export.formats.nanotron import Nanotron

WRITE = """
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
file = TokenizedFile(sys.argv[1], "part-00000.ds", token_size=int(sys.argv[2]))
for ids in json.loads(sys.argv[3]):
    file.write(ids, None)
file.close()
"""

READ = """
from datatrove.utils.dataset import DatatroveFileDataset
dataset = DatatroveFileDataset(sys.argv[1], seq_len=7, token_size=2, return_positions=True)
samples = [dataset[i] for i in range(len(dataset))]
print(json.dumps([[s["input_ids"].tolist(), s["positions"].tolist()] for s in samples]))
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = write_export(Nanotron(), tmp_path, kind=kind, tokens=20_000)
    expected = WEIGHTS if kind == "recipe" else {"mixed": 1.0}
    shares = read_shares("nanotron", Nanotron(), contents)
    assert shares == pytest.approx(expected, abs=0.02)
    assert shares == measure_shares(Nanotron().read_by_rule(tmp_path, contents))


def test_a_wrong_weight_in_the_stage_is_seen(tmp_path, read_shares):
    contents = write_export(Nanotron(), tmp_path)
    path = tmp_path / "nanotron.yaml"
    path.write_text(path.read_text().replace("- 0.5", "- 3.0"))
    shares = read_shares("nanotron", Nanotron(), contents)
    assert shares["long books"] == pytest.approx(6 / 7, abs=0.02)


@pytest.mark.parametrize("vocab_size", [1000, 100_000])
def test_files_are_those_of_datatrove_itself(tmp_path, run_consumer, rng, vocab_size):
    tokenization = Tokenization("test", vocab_size, vocab_size - 1)
    documents = make_documents(rng, 50, 20, tokenization)
    files = write_shard(Nanotron(), tmp_path / "ours", "part-00000", documents, tokenization)
    size = np.dtype(tokenization.dtype).itemsize
    ids = json.dumps([ids.tolist() for ids in documents])
    run_consumer("nanotron", WRITE, str(tmp_path / "theirs"), str(size), ids)
    assert sorted(files) == ["part-00000.ds", "part-00000.ds.index"]
    for file in files:
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


def test_positions_start_again_with_each_document(tmp_path, run_consumer):
    documents = [np.array(ids, dtype="u2") for ids in ([1, 2, 999], [5, 6, 7, 999], [8, 999])]
    write_shard(Nanotron(), tmp_path, "part-00000", documents)
    output = run_consumer("nanotron", READ, str(tmp_path / "part-00000.ds"))
    ids, positions = [1, 2, 999, 5, 6, 7, 999, 8], [0, 1, 2, 0, 1, 2, 3, 0]
    assert json.loads(output.splitlines()[-1]) == [[ids, positions]]
