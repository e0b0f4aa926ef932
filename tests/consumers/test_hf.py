"""Hugging Face datasets reads an export with the weights of the mixture."""

import pytest
from text_export import WEIGHTS, make_export

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
    import json

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
