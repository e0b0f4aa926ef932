"""Hugging Face datasets reads an export with the weights of the mixture."""

import dataclasses
import json
import shutil

import pytest
from text_export import WEIGHTS, describe, make_export, make_rows

from climb.export import documents
from climb.export.formats.hf import HuggingFace

READ_SPLITS = """
import datasets
names = datasets.get_dataset_config_names(sys.argv[1])
counts = {name: {} for name in names}
for name in names:
    for split in ("train", "validation"):
        rows = datasets.load_dataset(sys.argv[1], name, split=split, streaming=True)
        counts[name][split] = sum(1 for _ in rows)
print(json.dumps(counts))
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = make_export(HuggingFace(), tmp_path, kind)
    shares = read_shares("hf", HuggingFace(), contents, count=60_000)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_shares_of_tokens_in_the_script_would_miss_the_mixture(tmp_path, read_shares, monkeypatch):
    monkeypatch.setattr(documents, "convert_weights", lambda weights, means: weights)
    contents = make_export(HuggingFace(), tmp_path, "recipe")
    shares = read_shares("hf", HuggingFace(), contents, count=5_000)
    assert shares["law"] > 0.7


def test_the_card_has_a_configuration_with_both_splits_for_every_domain(tmp_path, run_consumer):
    make_export(HuggingFace(), tmp_path, "recipe")
    counts = json.loads(run_consumer("hf", READ_SPLITS, str(tmp_path)).splitlines()[-1])
    assert list(counts) == ["chat", "code%3A %5Bpy%5D%2Fé", "law"]
    assert counts["law"] == {"train": 60, "validation": 9}


def test_the_script_runs_in_another_folder(tmp_path, run_consumer):
    folder = tmp_path / "export"
    folder.mkdir()
    make_export(HuggingFace(), folder, "recipe")
    folder.rename(tmp_path / "moved")
    run = "import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
    printed = run_consumer("hf", run, str(tmp_path / "moved" / "load.py"))
    assert len(printed.splitlines()) == 10


READ_OWN = """
from load import load_mixture
print(json.dumps([[row["domain"], row["n_tokens"]] for row in load_mixture().take(9_000)]))
"""


def test_files_of_the_user_are_all_read_whatever_their_folders(tmp_path, run_consumer):
    """The folders of a domain differ, those of two domains have one name, and paths have `[`."""
    contents = make_export(HuggingFace(), tmp_path / "export", "recipe")
    shards = []
    for number, shard in enumerate(contents.list_shards("train")):
        path = tmp_path / f"my [data] *?/{number // 3}/{number % 3}" / "a.parquet"
        path.parent.mkdir(parents=True)
        shutil.copy(tmp_path / "export" / shard.files[0], path)
        shards.append(dataclasses.replace(shard, files=(str(path),)))
    own = dataclasses.replace(contents, shards=tuple(shards))
    describe(HuggingFace(), tmp_path / "export", own)
    shutil.rmtree(tmp_path / "export" / "train")
    code = f"sys.path.insert(0, {str(tmp_path / 'export')!r})" + READ_OWN
    rows = json.loads(run_consumer("hf", code).splitlines()[-1])
    wanted = [[r["domain"], r["n_tokens"]] for name in WEIGHTS for r in make_rows(name)]
    assert {tuple(row) for row in rows} == {tuple(row) for row in wanted}
