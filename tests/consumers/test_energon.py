"""Megatron-Energon reads an export with the weights of the mixture, without `energon prepare`."""

import json

import pytest
from text_export import WEIGHTS, make_export, make_rows, write_shard

from climb.export import documents
from climb.export.formats.energon import Energon

# The task encoder in the documentation of the format.
READ_VALIDATION = """
from megatron import energon

@energon.stateless
def cook(sample):
    keys = energon.basic_sample_keys(sample)
    return energon.TextSample(**keys, text=sample["json"]["text"])

class TextEncoder(energon.DefaultTaskEncoder):
    cookers = [energon.Cooker(cook)]

dataset = energon.get_val_dataset(
    sys.argv[1] + "/metadataset.yaml", split_part="val", batch_size=None,
    worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=0),
    task_encoder=TextEncoder(),
)
print(json.dumps(sorted(sample.text for sample in energon.get_loader(dataset))))
"""

INDEX = """
from megatron.energon.flavors.jsonl.ijsonl import IJsonlIndexWriter
from megatron.energon.epathlib import EPath
with open(sys.argv[1], "rb") as lines, IJsonlIndexWriter(EPath(sys.argv[1])) as index:
    index.append(0)
    while lines.readline():
        index.append(lines.tell())
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = make_export(Energon(), tmp_path, kind)
    shares = read_shares("energon", Energon(), contents, count=60_000)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_shares_of_tokens_in_the_blend_would_miss_the_mixture(tmp_path, read_shares, monkeypatch):
    monkeypatch.setattr(documents, "convert_weights", lambda weights, means: weights)
    contents = make_export(Energon(), tmp_path, "recipe")
    shares = read_shares("energon", Energon(), contents, count=5_000)
    assert shares["law"] > 0.7


def test_validation_has_every_document_once(tmp_path, run_consumer):
    make_export(Energon(), tmp_path, "recipe")
    output = run_consumer("energon", READ_VALIDATION, str(tmp_path))
    wanted = [r["text"] for name in WEIGHTS for r in make_rows(name, "validation", 9)]
    assert json.loads(output.splitlines()[-1]) == sorted(wanted)


def test_an_index_equals_one_that_energon_writes(tmp_path, run_consumer):
    lines, index = write_shard(Energon(), make_rows("law"), tmp_path, "train/law/0")
    ours = (tmp_path / index).read_bytes()
    run_consumer("energon", INDEX, str(tmp_path / lines))
    assert (tmp_path / index).read_bytes() == ours
