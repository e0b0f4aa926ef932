"""Formats of text: the weights arrive in the unit of the trainer, and batches change no byte."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from text_export import (
    DOMAINS,
    WEIGHTS,
    batch_rows,
    count_shares,
    describe,
    find_error,
    make_export,
    make_mixed,
    make_rows,
    write_shard,
)

from climb.errors import ConfigError, InputError
from climb.export import Contents, Format, Sample, documents
from climb.export.format import check_early, describe_files
from climb.export.formats import nanochat
from climb.export.formats.energon import Energon
from climb.export.formats.hf import HuggingFace
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.levanter import Levanter
from climb.export.formats.lingua import Lingua
from climb.export.formats.nanochat import Nanochat
from climb.export.formats.streaming import Streaming, read_mds
from climb.export.formats.torchtitan import Torchtitan
from climb.export.groups import escape_name
from climb.export.index import read_export
from climb.export.writers import jsonl, mds
from climb.export.writers.jsonl import JsonLinesWriter
from climb.export.writers.parquet import ParquetWriter

FORMS = [
    *(JsonLines(), HuggingFace(), Streaming(), Energon()),
    *(Lingua(), Levanter(), Torchtitan(), Nanochat()),
]
ROOT = Path(__file__).resolve().parents[2]
CODE = "code: [py]/é"


def name_type(value):
    return type(value).__name__


@pytest.fixture(params=FORMS, ids=name_type)
def form(request):
    return request.param


def test_a_format_of_text_has_what_a_format_needs(form):
    assert isinstance(form, Format)
    assert not form.stores_tokens
    assert form.shard_bytes > 0


def test_by_rule_each_domain_gets_its_share_of_tokens(form, tmp_path):
    contents = make_export(form, tmp_path, form.kinds[0])
    assert find_error(count_shares(form.read_by_rule(tmp_path, contents))) < 0.01


@pytest.mark.parametrize(
    "form", [form for form in FORMS if len(form.kinds) > 1], indirect=True, ids=name_type
)
def test_by_rule_the_other_kind_has_the_same_shares(form, tmp_path):
    contents = make_export(form, tmp_path, form.kinds[1])
    shares = count_shares(form.read_by_rule(tmp_path, contents), 1_500_000)
    assert find_error(shares) < 0.015


@pytest.mark.parametrize(
    "form", [JsonLines(), HuggingFace(), Streaming(), Energon(), Lingua()], ids=name_type
)
def test_shares_of_tokens_are_wrong_where_documents_count(form, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "convert_weights", lambda weights, means: weights)
    contents = make_export(form, tmp_path, "recipe")
    shares = count_shares(form.read_by_rule(tmp_path, contents), 300_000)
    assert find_error(shares) > 0.4
    assert shares["law"] > 0.7


def test_batches_do_not_change_a_byte(form, tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "CHUNK", 1000)
    name = form.name_shard("train", "law", 0, 1)
    files = {}
    for size in (1, 7, 1000):
        written = write_shard(form, make_rows("law"), tmp_path / str(size), name, size)
        files[size] = {file: (tmp_path / str(size) / file).read_bytes() for file in written}
    assert files[1] == files[7] == files[1000]
    assert all(file.startswith(name) for file in files[1])


def test_a_shard_may_be_empty(form, tmp_path):
    name = form.name_shard("train", None, 0, 1)
    assert write_shard(form, [], tmp_path, name)


@pytest.mark.parametrize("form", [f for f in FORMS if f.unit == "documents"], ids=name_type)
def test_every_document_is_read(form, tmp_path):
    contents = make_export(form, tmp_path, form.kinds[0])
    samples = form.read_by_rule(tmp_path, contents)
    wanted = {Sample(row["domain"], row["n_tokens"]) for row in make_rows("law")}
    assert {next(samples) for _ in range(8_000)} >= wanted


@pytest.mark.parametrize("form", [form for form in FORMS if "recipe" in form.kinds], ids=name_type)
def test_a_domain_without_weight_is_not_read(form, tmp_path):
    weights = {"law": 0.0, CODE: 0.6, "chat": 0.4}
    contents = make_export(form, tmp_path, "recipe", weights=weights)
    shares = count_shares(form.read_by_rule(tmp_path, contents), 300_000)
    assert shares == pytest.approx(weights, abs=0.02)


def test_a_domain_without_weight_is_not_in_a_blend(tmp_path):
    contents = make_export(
        Energon(), tmp_path, "recipe", weights={"law": 0.0, CODE: 0.6, "chat": 0.4}
    )
    text = Energon().describe(contents)["metadataset.yaml"]
    assert not any("/law/" in e["path"] for e in yaml.safe_load(text)["splits"]["train"]["blend"])


def test_the_contents_of_an_export_can_be_read_again(tmp_path):
    contents = make_export(JsonLines(), tmp_path, "recipe")
    export = read_export(tmp_path)
    assert export.contents == contents
    assert export.load_format() == JsonLines()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_json_lines_have_the_documents_in_order(compression, tmp_path):
    form = JsonLines(compression=compression)
    (file,) = write_shard(form, make_rows("chat"), tmp_path, "train/chat/00000-of-00001")
    assert file.endswith(jsonl.ENDINGS[compression])
    with documents._open_text(tmp_path / file) as lines:
        rows = [json.loads(line) for line in lines]
    keys = ("text", "domain", "doc_id", "n_tokens")
    assert rows == [{key: row[key] for key in keys} for row in make_rows("chat")]


def test_a_gzip_header_has_no_time_and_no_name(tmp_path):
    (file,) = write_shard(Levanter(), make_rows("chat"), tmp_path, "train/chat/0")
    assert (tmp_path / file).read_bytes()[3:8] == bytes(5)


def test_weights_of_json_lines_have_both_units(tmp_path):
    make_export(JsonLines(), tmp_path, "recipe")
    domains = json.loads((tmp_path / "weights.json").read_text())["domains"]
    assert {name: values["token_weight"] for name, values in domains.items()} == WEIGHTS
    n_documents = {name: values["document_weight"] for name, values in domains.items()}
    assert sum(n_documents.values()) == pytest.approx(1.0)
    assert n_documents[CODE] / n_documents["law"] == pytest.approx(2.5 * 20, rel=0.1)


def read_groups(path):
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        return groups, file.read().to_pylist()


def write_parquet(path, rows, **options):
    writer = ParquetWriter(path, **options)
    for batch in batch_rows(rows, 11):
        writer.write(batch)
    writer.close()
    return read_groups(path)


def test_a_row_group_ends_after_a_number_of_documents(tmp_path):
    groups, rows = write_parquet(tmp_path / "a.parquet", make_rows("law"), group_rows=25)
    assert groups == [25, 25, 10]
    assert [row["doc_id"] for row in rows] == [row["doc_id"] for row in make_rows("law")]


def test_a_row_group_ends_after_a_number_of_bytes(tmp_path):
    rows = [row | {"text": "é" * 5} for row in make_rows("law")]
    groups, _ = write_parquet(tmp_path / "a.parquet", rows, group_bytes=95)
    assert groups == [10] * 6


def test_columns_are_those_that_were_asked_for(tmp_path):
    columns = ("text", "n_tokens")
    _, rows = write_parquet(tmp_path / "a.parquet", make_rows("law"), columns=columns)
    assert rows == [{key: row[key] for key in columns} for row in make_rows("law")]


def test_nanochat_gets_a_flat_folder_whose_last_file_is_validation(tmp_path):
    form = Nanochat(group_rows=256, validation_group_rows=4)
    make_export(form, tmp_path, "mixed", n_shards=2)
    files = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert files == ["shard_00000.parquet", "shard_00001.parquet", "shard_99999.parquet"]
    groups, rows = read_groups(tmp_path / files[0])
    assert set(groups[:-1]) == {256}
    assert list(rows[0]) == ["text", "domain", "doc_id", "n_tokens"]
    groups, rows = read_groups(tmp_path / files[-1])
    assert set(groups[:-1]) == {4}
    assert all(row["doc_id"].startswith("validation") for row in rows)


def test_nanochat_trains_on_all_files_but_the_last_in_order(tmp_path):
    contents = make_export(Nanochat(), tmp_path, "mixed")
    samples = Nanochat().read_by_rule(tmp_path, contents)
    rows = [Sample(row["domain"], row["n_tokens"]) for row in make_mixed()]
    assert [next(samples) for _ in range(2 * len(rows))] == rows + rows


def test_nanochat_has_one_validation_file():
    with pytest.raises(ConfigError, match="2 shards"):
        Nanochat().name_shard("validation", None, 0, 2)


def drop_validation(contents):
    return dataclasses.replace(contents, shards=tuple(contents.list_shards("train")))


def test_nanochat_needs_a_validation_file(tmp_path):
    contents = make_export(Nanochat(), tmp_path, "mixed", n_shards=2)
    with pytest.raises(ConfigError, match="validation split"):
        describe_files(Nanochat(), drop_validation(contents))
    with pytest.raises(ConfigError, match="validation split"):
        check_early(Nanochat(), str(tmp_path), False)
    check_early(Nanochat(), str(tmp_path), True)


@pytest.mark.parametrize(
    ("form", "kind"),
    [(form, kind) for form in FORMS[:-1] for kind in form.kinds],
    ids=lambda value: value if isinstance(value, str) else name_type(value),
)
def test_an_export_without_a_validation_split_is_read(form, kind, tmp_path):
    contents = drop_validation(make_export(form, tmp_path, kind))
    shutil.rmtree(tmp_path / "validation")
    files = form.describe(contents)
    assert not any("validation/" in path or "validation/" in files[path] for path in files)
    describe(form, tmp_path, contents)
    assert next(form.read_by_rule(tmp_path, contents)).tokens > 0


def test_row_groups_of_nanochat_are_small_enough_for_the_memory_of_a_task():
    assert nanochat.MOST_GROUP_BYTES <= 1 << 27


def test_a_file_of_mds_cannot_be_configured_too_large():
    assert Streaming(shard_bytes=1 << 30).shard_bytes == 1 << 30
    with pytest.raises(ConfigError, match="shard_bytes"):
        Streaming(shard_bytes=(1 << 30) + 1)


@pytest.mark.parametrize("n_bytes", [0, -5])
def test_shards_have_at_least_one_byte_in_every_format(form, n_bytes, tmp_path):
    with pytest.raises(ConfigError, match=f"shard_bytes is {n_bytes}; it must be at least 1"):
        check_early(dataclasses.replace(form, shard_bytes=n_bytes), str(tmp_path), True)


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        (HuggingFace, {"group_bytes": 0}, "HuggingFace: group_bytes is 0"),
        (Torchtitan, {"group_bytes": -1}, "Torchtitan: group_bytes is -1"),
        (Nanochat, {"group_rows": 0}, "Nanochat: group_rows is 0"),
        (Nanochat, {"validation_group_rows": -1}, "Nanochat: validation_group_rows is -1"),
        (JsonLines, {"level": 99}, "level is 99; for compression zstd it must be -131072 to 22"),
        (JsonLines, {"compression": "gzip", "level": 22}, "for compression gzip it must be -1 to"),
    ],
)
def test_options_that_a_writer_cannot_use_are_refused_before_it_writes(form, options, message):
    with pytest.raises(ConfigError, match=message):
        form(**options)


@pytest.mark.parametrize(("compression", "levels"), [("gzip", (-1, 9)), ("zstd", (-5, 22))])
def test_the_first_and_last_level_of_a_compression_can_be_used(compression, levels, tmp_path):
    for level in levels:
        JsonLines(compression=compression, level=level).open_shard(tmp_path / "a", None).close()


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_a_domain_of_dots_stays_in_its_split(name, form):
    if "recipe" in form.kinds:
        path = form.name_shard("train", escape_name(name), 0, 1)
        assert not {".", ".."} & set(path.split("/"))
        assert path != form.name_shard("train", escape_name(name + "."), 0, 1)


def test_escaped_names_differ_where_names_do():
    names = [".", "..", "%2E", "a.b", "a/b", "a%2Fb", "a<b", "a%3Cb", "a b", "é"]
    assert len({escape_name(name) for name in names}) == len(names)
    assert escape_name("a.b") == "a.b"


def name_own_files(contents, folder, subfolders):
    """Contents whose training files are the user's own: DOMAIN/SUBFOLDER/NAME, absolute."""
    shards = []
    for number, shard in enumerate(contents.list_shards("train")):
        subfolder = subfolders[number % len(subfolders)]
        (file,) = shard.files
        path = folder / str(number // 3) / subfolder / Path(file).name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(contents.folder) / file, path)
        shards.append(dataclasses.replace(shard, files=(str(path),)))
    return dataclasses.replace(contents, shards=tuple(shards))


@pytest.mark.parametrize("form", [f for f in FORMS if f.endings], ids=name_type)
@pytest.mark.parametrize("subfolders", [("train",), ("2020", "2021", "2022")])
def test_all_files_of_the_user_are_read_whatever_their_folders(form, subfolders, tmp_path):
    contents = make_export(form, tmp_path / "export", "recipe")
    # Levanter refuses a folder with brackets, which it cannot read.
    data = tmp_path / ("data x" if isinstance(form, Levanter) else "data [x]")
    own = name_own_files(contents, data, subfolders)
    describe(form, tmp_path / "export", own)
    shutil.rmtree(tmp_path / "export" / "train")
    samples = list(itertools.islice(form.read_by_rule(tmp_path / "export", own), 40_000))
    assert find_error(count_shares(samples, 10**9)) < 0.03
    if form.unit == "documents":
        rows = [row for name in DOMAINS for row in make_rows(name)]
        assert set(samples) == {Sample(row["domain"], row["n_tokens"]) for row in rows}


def test_own_files_of_any_compression_are_in_the_weights(tmp_path):
    contents = make_export(JsonLines(), tmp_path, "recipe")
    own = [dataclasses.replace(s, files=("/data/a.jsonl", "/b.jsonl.gz")) for s in contents.shards]
    text = JsonLines().describe(dataclasses.replace(contents, shards=tuple(own)))["weights.json"]
    files = json.loads(text)["domains"]["law"]["files"]
    assert files == ["/data/a.jsonl", "/b.jsonl.gz"] * 3


def test_a_card_with_three_hyphens_in_a_name_is_read(tmp_path):
    contents = make_export(HuggingFace(), tmp_path, "recipe")
    for path in (tmp_path / "README.md", tmp_path / "load.py"):
        text = path.read_text(encoding="utf-8")
        for key in ("config_name: law", '"law"'):
            text = text.replace(key, key.replace("law", "law---"))
        path.write_text(text, encoding="utf-8")
    assert find_error(count_shares(HuggingFace().read_by_rule(tmp_path, contents))) < 0.01
    (tmp_path / "README.md").write_text("no header", encoding="utf-8")
    with pytest.raises(ValueError, match="no header"):
        HuggingFace().read_by_rule(tmp_path, contents)


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_card_lists_the_files_of_every_split(kind, tmp_path):
    contents = make_export(HuggingFace(), tmp_path, kind)
    header = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    listed = set()
    for configuration in yaml.safe_load(header)["configs"]:
        assert not re.search(r'[<>:/\\|?*"]', configuration["config_name"])
        splits = {entry["split"]: entry["path"] for entry in configuration["data_files"]}
        assert set(splits) == {"train", "validation"}
        listed |= {str(p.relative_to(tmp_path)) for g in splits.values() for p in tmp_path.glob(g)}
    assert listed == {file for shard in contents.shards for file in shard.files}


def test_the_script_for_hugging_face_has_no_path_of_this_machine(tmp_path):
    make_export(HuggingFace(), tmp_path, "recipe")
    assert str(tmp_path) not in (tmp_path / "load.py").read_text(encoding="utf-8")


def test_an_index_of_json_lines_has_every_start_and_the_end(tmp_path):
    names = write_shard(Energon(), make_rows(CODE), tmp_path, "train/code/0")
    assert names == ("train/code/0.jsonl", "train/code/0.jsonl.idx")
    text = (tmp_path / names[0]).read_bytes()
    offsets = np.fromfile(tmp_path / names[1], "<u8")
    assert len(offsets) == len(make_rows(CODE)) + 1
    assert offsets[-1] == len(text)
    for i in (0, 1, 599):
        line = text[int(offsets[i]) : int(offsets[i + 1])]
        assert json.loads(line)["doc_id"] == make_rows(CODE)[i]["doc_id"]


def test_the_files_of_a_domain_divide_its_weight_by_their_documents(tmp_path):
    contents = make_export(Energon(), tmp_path, "recipe")
    shards = [
        dataclasses.replace(s, documents=s.documents * (1 + 2 * ("00001-" in s.files[0])))
        for s in contents.shards
    ]
    describe(Energon(), tmp_path, Contents(**vars(contents) | {"shards": tuple(shards)}))
    values = yaml.safe_load((tmp_path / "metadataset.yaml").read_text(encoding="utf-8"))
    entries = values["splits"]["train"]["blend"]
    weights = [entry["weight"] for entry in entries if "/law/" in entry["path"]]
    assert weights == pytest.approx([weights[0], 3 * weights[0], weights[0]])
    assert sum(entry["weight"] for entry in entries) == pytest.approx(1.0)


def test_an_index_of_mds_has_the_sizes_of_the_files(tmp_path):
    contents = make_export(Streaming(), tmp_path, "recipe")
    index = json.loads((tmp_path / "train/law/index.json").read_text())
    for entry in index["shards"]:
        path = tmp_path / "train/law" / entry["raw_data"]["basename"]
        assert path.stat().st_size == entry["raw_data"]["bytes"]
        assert len(list(read_mds(path))) == entry["samples"]
    assert sum(entry["samples"] for entry in index["shards"]) == 60
    assert len(contents.list_shards("train", "law")) == len(index["shards"])


def test_a_file_of_mds_that_is_too_large_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(mds, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="shard_bytes"):
        write_shard(Streaming(), make_rows("law"), tmp_path, "train/law/0")


def test_an_epoch_of_streaming_is_long_enough_for_exact_proportions(tmp_path):
    make_export(Streaming(), tmp_path, "recipe")
    values = yaml.safe_load((tmp_path / "streams.yaml").read_text(encoding="utf-8"))
    mean = sum(s["proportion"] * DOMAINS[name][0] for name, s in values["streams"].items())
    assert 400 / (values["epoch_size"] * mean) < 0.0011


def test_a_chunk_of_lingua_is_one_domain_unless_the_user_wants_more(tmp_path):
    form = Lingua()
    assert form.shard_bytes > 10**15
    assert form.name_shard("train", "law", 0, 1) == "train/law/law.chunk.00"
    assert form.name_shard("train", "law", 7, 1000) == "train/law/law.chunk.007"
    assert form.name_shard("validation", None, 0, 1) == "validation/mixed/mixed.00.val"


def test_rare_domains_are_in_the_blocks_of_levanter(tmp_path):
    weights = {"law": 1e-4, CODE: 0.6, "chat": 0.3999}
    contents = make_export(Levanter(), tmp_path, "recipe", weights=weights)
    shares = count_shares(Levanter().read_by_rule(tmp_path, contents), 32768 * 64)
    assert shares["law"] == pytest.approx(1e-4, rel=0.1)
    with pytest.raises(ConfigError, match="domain law has the weight"):
        Levanter(block_size=2048).describe(contents)
    assert "law: 0.0001" in Levanter(block_size=10_001).describe(contents)["data.yaml"]


def test_a_domain_too_rare_for_levanter_is_named_as_the_corpus_names_it(tmp_path):
    weights = {"law": 0.6, CODE: 1e-9, "chat": 0.4}
    with pytest.raises(ConfigError, match=f"domain {re.escape(CODE)} has the weight 1e-09"):
        make_export(Levanter(), tmp_path, "recipe", weights=weights)


def test_the_size_of_a_block_of_levanter_has_limits():
    for size in (0, 1 << 16):
        with pytest.raises(ConfigError, match="block_size"):
            Levanter(block_size=size)
    assert Levanter(block_size=65_535).block_size == 65_535


@pytest.mark.parametrize("form", FORMS[:-1], ids=name_type)
def test_a_domain_whose_files_are_empty_is_reported(form, tmp_path):
    contents = make_export(form, tmp_path, "recipe")
    for shard in contents.list_shards("train", "law"):
        (file,) = (file for file in shard.files if not file.endswith(".idx"))
        index = int(Path(file).name.removeprefix("law.chunk.")[:5].split(".")[0])
        name = form.name_shard("train", "law", index, 3)
        write_shard(form, [], tmp_path, name)
    with pytest.raises(ValueError, match="export again"):
        count_shares(form.read_by_rule(tmp_path, contents))


def test_sequences_go_on_with_the_rest_of_a_document():
    read = iter([Sample("a", 5), Sample("b", 2), Sample("c", 9)])
    assert list(documents.pack_documents(read, 4)) == [
        [Sample("a", 4)],
        [Sample("a", 1), Sample("b", 2), Sample("c", 1)],
        [Sample("c", 4)],
        [Sample("c", 4)],
    ]


def test_a_format_without_a_loader_says_so(form, tmp_path):
    if not form.loader:
        with pytest.raises(ImportError, match="use read_by_rule"):
            form.read_samples(tmp_path, None)


def test_formats_import_without_other_packages():
    code = f"""
import importlib, importlib.util, sys
for name in ("pyarrow", "yaml", "zstandard", "pydantic", "pyspark", "scipy", "pandas"):
    sys.modules[name] = None
root = {str(ROOT / "lib/climb")!r}
spec = importlib.util.spec_from_file_location(
    "climb", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["climb"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["climb"])
for name in {sorted({type(form).__module__ for form in FORMS})!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_a_writer_without_offsets_makes_one_file(tmp_path):
    JsonLinesWriter(tmp_path / "a", "none").close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


PATTERNS = {
    HuggingFace: ("*", "?", "[1]", "]", "a::b"),
    Torchtitan: ("*", "?", "[1]", "]", "a::b"),
    Levanter: ("*", "?", "[1]", "a::b", "{a,b}", "}", "{", "a\\b"),
}


@pytest.mark.parametrize(
    ("form", "text"),
    [(form(), text) for form, texts in PATTERNS.items() for text in texts],
    ids=str,
)
def test_a_folder_that_a_trainer_takes_for_a_pattern_is_refused(form, text, tmp_path):
    folder = tmp_path / f"mix{text}" / "out"
    with pytest.raises(ConfigError, match=r"the path .* contains .*; use another path"):
        check_early(form, str(folder), True)
    contents = make_export(form, tmp_path / "mix", "recipe")
    with pytest.raises(ConfigError, match=r"the path .* contains .*; use another path"):
        describe_files(form, dataclasses.replace(contents, folder=str(folder)))


def test_a_folder_with_the_name_of_the_script_of_hugging_face_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"has the name of its script load\.py"):
        check_early(HuggingFace(), str(tmp_path / "load"), True)
    check_early(HuggingFace(), str(tmp_path / "load" / "out"), True)


def test_no_character_of_a_pattern_is_in_the_escaped_name_of_a_domain():
    assert not set("*?[]{}\\:") & set(escape_name("a*?[1]{a,b}}\\::"))
