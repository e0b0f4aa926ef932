"""An export that names files of the user's own: all of them, each under its domain."""

import json

import pytest
import yaml

from climb.config import load
from climb.errors import ConfigError, InputError
from climb.export.formats import find_format
from climb.runs.export import export_own
from climb.tokenizer import train_json


@pytest.fixture
def export(tmp_path):
    """Write the weights of domains law (0.2) and web (0.8); return the folder of the export."""
    (tmp_path / "mixture.csv").write_text("domain,weight\nlaw,0.2\nweb,0.8\n")
    (tmp_path / "prior.csv").write_text("domain,tokens,documents\nlaw,1000,10\nweb,9000,30\n")
    (tmp_path / "tokenizer.json").write_text(train_json(["hello world foo bar"] * 3, 300))

    def run(to, files, data="data"):
        for file in files:
            path = tmp_path / data / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 100)
        out = tmp_path / "out"
        settings = [f"export.format={json.dumps(find_format(to))}", f"export.path={out}"]
        if to in ("megatron", "automodel", "olmo-core"):
            settings.append(f"export.tokenizer={tmp_path / 'tokenizer.json'}")
        cfg = load(None, tuple(settings))
        export_own(tmp_path / "mixture.csv", tmp_path / "prior.csv", tmp_path / data, cfg)
        return out

    return run


def read_configurations(folder):
    header = (folder / "README.md").read_text(encoding="utf-8").split("\n---\n")[0]
    configurations = yaml.safe_load(header.removeprefix("---\n"))["configs"]
    return {
        c["config_name"]: [path for d in c["data_files"] for path in d["path"]]
        for c in configurations
    }


def test_levanter_gets_a_component_for_each_domain_with_folders_of_one_name(export, tmp_path):
    out = export("levanter", ["law/train/a.jsonl.gz", "web/train/a.jsonl.gz"])
    data = yaml.safe_load((out / "data.yaml").read_text())["data"]
    assert data["train_weights"] == {"law": 0.2, "web": 0.8}
    urls = {name: c["source"]["train_urls"] for name, c in data["components"].items()}
    assert urls == {n: [f"{tmp_path}/data/{n}/train/a.jsonl.gz"] for n in ("law", "web")}


def test_hugging_face_gets_all_files_of_all_folders(export, tmp_path):
    files = ["law/2020/a.parquet", "law/2021/b.parquet", "web/2020/a.parquet"]
    listed = read_configurations(export("hf", files))
    paths = [f"{tmp_path}/data/{file}" for file in files]
    assert listed == {"law": paths[:2], "web": paths[2:]}


def test_json_lines_may_be_compressed_in_any_way(export, tmp_path):
    files = ["law/a.jsonl", "law/a.jsonl.gz", "web/a.jsonl.zst"]
    out = export("jsonl", files)
    domains = json.loads((out / "weights.json").read_text())["domains"]
    paths = [f"{tmp_path}/data/{file}" for file in files]
    assert {n: d["files"] for n, d in domains.items()} == {"law": paths[:2], "web": paths[2:]}
    shards = json.loads((out / "export.json").read_text())["contents"]["shards"]
    assert [len(shard["files"]) for shard in shards] == [1, 1, 1]


@pytest.mark.parametrize("to", ["megatron", "automodel"])
def test_white_space_in_the_path_of_files_is_an_error(to, export):
    files = ["law/a.bin", "law/a.idx", "web/a.bin", "web/a.idx"]
    with pytest.raises(ConfigError, match="white space"):
        export(to, files, data="my data")


@pytest.mark.parametrize("to", ["megatron", "automodel"])
@pytest.mark.parametrize(("there", "missing"), [("bin", "idx"), ("idx", "bin")])
def test_a_file_without_the_other_of_its_pair_is_an_error(to, there, missing, export):
    files = ["law/a.bin", "law/a.idx", f"law/b.{there}", "web/a.bin", "web/a.idx"]
    with pytest.raises(InputError, match=rf"b\.{there} exists, but \S+b\.{missing} is missing"):
        export(to, files)


@pytest.mark.parametrize("to", ["megatron", "automodel"])
def test_a_pair_of_files_is_one_shard(to, export, tmp_path):
    out = export(to, ["law/a.bin", "law/a.idx", "web/b/a.bin", "web/b/a.idx"])
    text = "".join(p.read_text() for p in [*out.glob("blend.txt"), *out.glob("automodel.yaml")])
    assert text.count(f"{tmp_path}/data/") == 2
    assert all(f"{tmp_path}/data/{name}" in text for name in ("law/a", "web/b/a"))
