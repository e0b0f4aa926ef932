"""MosaicML streaming reads an export with the weights of the mixture."""

import json

import pytest
from text_export import WEIGHTS, make_export, make_rows, write_shard

from climb.export import documents
from climb.export.formats.streaming import Streaming

WRITE = """
from streaming import MDSWriter
columns = {"doc_id": "str", "domain": "str", "n_tokens": "int", "text": "str"}
with MDSWriter(out=sys.argv[1], columns=columns) as writer:
    for row in json.loads(Path(sys.argv[2]).read_text()):
        writer.write({name: row[name] for name in columns})
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = make_export(Streaming(), tmp_path, kind)
    shares = read_shares("streaming", Streaming(), contents, count=20_000)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_shares_of_tokens_as_proportions_would_miss_the_mixture(tmp_path, read_shares, monkeypatch):
    monkeypatch.setattr(documents, "convert_weights", lambda weights, means: weights)
    contents = make_export(Streaming(), tmp_path, "recipe")
    shares = read_shares("streaming", Streaming(), contents, count=2_000)
    assert shares["law"] > 0.7


def test_a_file_equals_one_that_streaming_writes(tmp_path, run_consumer):
    (name,) = write_shard(Streaming(), make_rows("code: [py]/é"), tmp_path, "train/code/0")
    (tmp_path / "rows.json").write_text(json.dumps(make_rows("code: [py]/é")))
    theirs = tmp_path / "theirs"
    run_consumer("streaming", WRITE, str(theirs), str(tmp_path / "rows.json"))
    assert (theirs / "shard.00000.mds").read_bytes() == (tmp_path / name).read_bytes()


def test_an_index_equals_one_that_streaming_writes(tmp_path, run_consumer):
    make_export(Streaming(), tmp_path, "recipe", n_shards=1)
    (tmp_path / "rows.json").write_text(json.dumps(make_rows("law")))
    theirs = tmp_path / "theirs"
    run_consumer("streaming", WRITE, str(theirs), str(tmp_path / "rows.json"))
    wanted = json.loads((theirs / "index.json").read_text())
    wanted["shards"][0]["raw_data"]["basename"] = "00000-of-00001.mds"
    assert json.loads((tmp_path / "train/law/index.json").read_text()) == wanted
