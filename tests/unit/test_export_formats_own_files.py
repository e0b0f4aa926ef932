"""An export that names files of the user's own: all of them, each under its domain."""

import json

import pytest
import yaml

from climb.config import load
from climb.errors import ConfigError, InputError
from climb.export.formats import find_format
from climb.export.index import read_export
from climb.runs.export import export_own
from climb.tokenizer import train_json


@pytest.fixture
def export(tmp_path):
    """Write the weights of domains law (0.2) and web (0.8); return the folder of the export."""
    (tmp_path / "mixture.csv").write_text("domain,weight\nlaw,0.2\nweb,0.8\n")
    (tmp_path / "prior.csv").write_text("domain,tokens,documents\nlaw,1000,10\nweb,9000,30\n")
    (tmp_path / "tokenizer.json").write_text(train_json(["hello world foo bar"] * 3, 300))

    def run(to, files, data="data", sizes=None):
        for file in files:
            path = tmp_path / data / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * (sizes or {}).get(file, 100))
        out = tmp_path / "out"
        settings = [f"export.format={json.dumps(find_format(to))}", f"export.path={out}"]
        settings.append("export.sequence_length=32")
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


SMALL = {"law/a": 10_000, "law/b": 10_000, "law/c": 20, "web/a": 100}


@pytest.mark.parametrize("law_tokens", [2, 40, 10_010])
def test_files_of_a_domain_are_weighted_by_their_sizes_also_if_the_prior_has_few_tokens(
    law_tokens, export, tmp_path
):
    text = f"domain,tokens,documents\nlaw,{law_tokens},10\nweb,9000,30\n"
    (tmp_path / "prior.csv").write_text(text)
    files = [f"{stem}{ending}" for stem in SMALL for ending in (".bin", ".idx")]
    sizes = {f"{stem}.bin": size for stem, size in SMALL.items()}
    blend = (export("megatron", files, sizes=sizes) / "blend.txt").read_text().split()
    weights = dict(zip(blend[1::2], map(float, blend[::2]), strict=True))
    shares = {
        "law/a": 0.2 * 500 / 1001,
        "law/b": 0.2 * 500 / 1001,
        "law/c": 0.2 / 1001,
        "web/a": 0.8,
    }
    assert weights == pytest.approx({f"{tmp_path}/data/{stem}": w for stem, w in shares.items()})


@pytest.mark.parametrize("law_tokens", [2, 10_010])
def test_olmo_core_may_repeat_own_files_as_often_as_their_sizes_require(
    law_tokens, export, tmp_path
):
    text = f"domain,tokens,documents\nlaw,{law_tokens},10\nweb,9000,30\n"
    (tmp_path / "prior.csv").write_text(text)
    sizes = {f"{stem}.npy": size for stem, size in SMALL.items()}
    out = export("olmo-core", list(sizes), sizes=sizes)
    law, _ = yaml.safe_load((out / "source_mixture.yaml").read_text())["sources"]
    assert len(law["paths"]) == 3
    target = json.loads((out / "export.json").read_text())["contents"]["target_tokens"]
    needed = 0.2 * target / 10_010
    assert needed <= law["max_repetition_ratio"]


def test_olmo_core_refuses_own_files_that_are_all_shorter_than_a_sequence(export):
    sizes = {"law/a.npy": 62, "law/b.npy": 62, "web/a.npy": 64}
    with pytest.raises(ConfigError, match="a sequence has 32 tokens, but the longest file of law"):
        export("olmo-core", list(sizes), sizes=sizes)


@pytest.mark.parametrize("name", ["a[1]", "a{1,2}", "a}", "a*", "a?", "a::b"])
def test_own_files_that_levanter_takes_for_a_pattern_are_refused(name, export, tmp_path):
    with pytest.raises(ConfigError, match=r"Levanter: the path .* contains .*; use another path"):
        export("levanter", [f"law/{name}.jsonl.gz", "web/a.jsonl.gz"])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("data", "mixture.csv", "prior.csv", "tokenizer.json")
    }


def test_hugging_face_reads_own_files_with_the_characters_of_patterns_by_their_names(export):
    out = export("hf", ["law/a[1].parquet", "web/a*.parquet"])
    paths = read_configurations(out)
    assert [path.rsplit("/", 1)[1] for path in paths["law"] + paths["web"]] == [
        *("a[[]1].parquet", "a[*].parquet")
    ]


def test_hugging_face_refuses_own_files_whose_names_it_takes_for_a_chain_of_file_systems(export):
    with pytest.raises(ConfigError, match="contains '::'"):
        export("hf", ["law/a::b.parquet", "web/a.parquet"])


def test_a_moved_export_may_name_own_files_whose_path_begins_with_that_of_its_old_folder(
    export, tmp_path
):
    files = ["law/a.bin", "law/a.idx", "web/a.bin", "web/a.idx"]
    out = export("megatron", files, data="out-data")
    out.rename(tmp_path / "moved")
    read_export(tmp_path / "moved").check_files()
