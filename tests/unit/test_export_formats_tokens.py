"""Formats that store tokens: what their files contain, read by the documented rules."""

import dataclasses
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import yaml
from token_export import (
    SEQUENCE,
    WEIGHTS,
    make_documents,
    measure_shares,
    write_export,
    write_shard,
)

from climb.errors import ConfigError
from climb.export import ExportedDomain, Format, Tokenization
from climb.export.format import check_early
from climb.export.formats.automodel import Automodel
from climb.export.formats.litdata import LitData
from climb.export.formats.megatron import Megatron
from climb.export.formats.nanotron import Nanotron, draw_samples
from climb.export.formats.olmo_core import OlmoCore, limit_repetition, round_exactly
from climb.export.token_files import draw_by_deficit, find_group, name_folder, weigh_shards

FORMATS = [Megatron(), OlmoCore(), LitData(), Nanotron(), Automodel()]
every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: type(fmt).__name__)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@every_format
def test_a_format_has_all_parts_of_the_interface(fmt):
    assert isinstance(fmt, Format)
    assert fmt.kinds == ("recipe", "mixed")
    assert fmt.unit == "tokens"
    assert fmt.stores_tokens


@every_format
def test_a_recipe_delivers_the_shares_of_tokens_of_the_mixture(fmt, tmp_path):
    contents = write_export(fmt, tmp_path, tokens=200_000)
    shares = measure_shares(fmt.read_by_rule(tmp_path, contents), count=20_000)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


@every_format
def test_a_mixed_export_is_one_group(fmt, tmp_path):
    contents = write_export(fmt, tmp_path, kind="mixed")
    assert measure_shares(fmt.read_by_rule(tmp_path, contents)) == {"mixed": 1.0}


@every_format
def test_a_domain_without_weight_is_not_in_the_files_of_the_trainer(fmt, tmp_path):
    weights = {"long books": 0.0, "notes": 0.4, "web/news": 0.6}
    contents = write_export(fmt, tmp_path, weights=weights, tokens=200_000)
    shares = measure_shares(fmt.read_by_rule(tmp_path, contents), count=20_000)
    assert shares == pytest.approx({"notes": 0.4, "web/news": 0.6}, abs=0.01)
    assert not any("books" in text for text in fmt.describe(contents).values())


@every_format
@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_an_export_without_validation_documents_is_read(fmt, tmp_path, kind):
    contents = write_export(fmt, tmp_path, kind=kind)
    train = dataclasses.replace(contents, shards=tuple(contents.list_shards("train")))
    files = fmt.describe(train)
    assert not any("validation/" in path or "validation/" in files[path] for path in files)
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    assert next(fmt.read_by_rule(tmp_path, train)).tokens >= train.sequence_length


@every_format
def test_the_bytes_of_a_shard_do_not_depend_on_the_batches(fmt, tmp_path, rng):
    documents = make_documents(rng, 30, 50)
    written = []
    for batch in (1, 7, 50):
        folder = tmp_path / str(batch)
        files = write_shard(fmt, folder, "train/part-00000", documents, batch=batch)
        written.append({file: (folder / file).read_bytes() for file in files})
    assert written[0] == written[1] == written[2]


@every_format
def test_the_bytes_of_a_shard_do_not_depend_on_how_its_lengths_are_read(
    fmt, tmp_path, rng, monkeypatch
):
    documents = make_documents(rng, 30, 50)
    files = write_shard(fmt, tmp_path / "one", "part", documents)
    monkeypatch.setattr("climb.export.writers.tokens.BLOCK", 7)
    monkeypatch.setattr("climb.export.writers.indexed.BLOCK", 7)
    assert write_shard(fmt, tmp_path / "blocks", "part", documents) == files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "blocks" / file).read_bytes()


@every_format
@pytest.mark.parametrize("vocab_size", [1 << 16, (1 << 16) + 1])
def test_a_shard_has_all_ids_in_their_order(fmt, tmp_path, rng, vocab_size):
    tokenization = Tokenization("test", vocab_size, vocab_size - 1)
    documents = make_documents(rng, 30, 50, tokenization)
    files = write_shard(fmt, tmp_path, "train/part-00000", documents, tokenization)
    ids = np.concatenate(documents).astype("<u2" if vocab_size == 1 << 16 else "<u4")
    assert any(ids.tobytes() in (tmp_path / file).read_bytes() for file in files)


@every_format
def test_a_format_with_tokens_needs_a_tokenizer(fmt, tmp_path):
    with pytest.raises(ConfigError, match=r"export\.tokenizer is empty, but the format stores"):
        fmt.open_shard(tmp_path / "part", None)


@every_format
def test_names_of_shards_have_no_white_space_and_do_not_collide(fmt):
    names = [
        fmt.name_shard("train", domain, index, 2)
        for domain in ("a b", "a%2520b", "a", "a\u2003b", "..", None)
        for index in (0, 1)
    ]
    assert len(set(names)) == 12
    assert not any(name.split() != [name] or ".." in Path(name).parts for name in names)


def test_a_file_that_is_not_of_the_export_is_reported():
    groups = {"train/a/part-00000.bin": "a"}
    assert find_group(groups, "/mnt/export/train/a/part-00000.bin") == "a"
    with pytest.raises(ValueError, match="not a file of the export"):
        find_group(groups, "/mnt/export/train/b/part-00000.bin")


def test_a_domain_and_the_mixed_group_have_folders_of_their_own():
    assert name_folder("train", None) != name_folder("train", "mixed")


def test_the_weight_of_a_domain_is_divided_by_the_tokens_of_its_shards(tmp_path):
    contents = write_export(Megatron(), tmp_path)
    weights = {shard.files: shard.weight for shard in weigh_shards(contents)}
    assert sum(weights.values()) == pytest.approx(1.0)
    for name, weight in WEIGHTS.items():
        first, second = contents.list_shards("train", name)
        assert weights[first.files] + weights[second.files] == pytest.approx(weight)
        ratio = weights[first.files] / weights[second.files]
        assert ratio == pytest.approx(first.tokens / second.tokens)


def test_the_source_that_is_furthest_below_its_weight_is_next():
    drawn = draw_by_deficit([2.0, 1.0, 1.0])
    assert [next(drawn) for _ in range(8)] == [0, 1, 2, 0, 0, 1, 2, 0]
    assert next(draw_by_deficit([1.0, 2.0])) == 1


def test_megatron_reads_the_weights_of_its_lists(tmp_path):
    contents = write_export(Megatron(), tmp_path)
    blend = json.loads((tmp_path / "blend.json").read_text())
    blend["train"][0] = str(3 * float(blend["train"][0]))
    (tmp_path / "blend.json").write_text(json.dumps(blend))
    with pytest.raises(ValueError, match="different lists"):
        next(Megatron().read_by_rule(tmp_path, contents))
    (tmp_path / "blend.txt").write_text(" ".join(blend["train"]))
    assert measure_shares(Megatron().read_by_rule(tmp_path, contents))["long books"] > 0.6


@pytest.mark.parametrize("fmt", [Megatron(), Automodel()], ids=lambda fmt: type(fmt).__name__)
def test_a_path_with_white_space_is_rejected_before_and_after_writing(fmt, tmp_path):
    with pytest.raises(ConfigError, match="white space"):
        check_early(fmt, str(tmp_path / "my export"), True)
    with pytest.raises(ConfigError, match="white space"):
        write_export(fmt, tmp_path / "my export")


@pytest.mark.parametrize("fmt", [Megatron(), Automodel()], ids=lambda fmt: type(fmt).__name__)
def test_files_of_the_user_with_white_space_are_rejected(fmt, tmp_path):
    contents = write_export(fmt, tmp_path)
    first, *rest = contents.shards
    own = dataclasses.replace(first, files=("/my data/a.bin", "/my data/a.idx"))
    with pytest.raises(ConfigError, match="/my data/a"):
        fmt.describe(dataclasses.replace(contents, shards=(own, *rest)))


def test_formats_without_an_early_check_are_not_checked(tmp_path):
    check_early(OlmoCore(), str(tmp_path / "my export"), False)


def test_megatron_gets_the_weights_of_the_validation_split(tmp_path):
    write_export(Megatron(), tmp_path)
    blend = json.loads((tmp_path / "blend.json").read_text())
    assert [float(weight) for weight in blend["valid"][::2]] == [0.5, 0.3, 0.2]
    assert all(Path(f"{prefix}.idx").is_file() for prefix in blend["valid"][1::2])
    assert blend["test"] is None


@pytest.mark.parametrize(
    ("damage", "end"), [("bin", -8), ("idx", -8), ("idx", 20), ("idx", 0)], ids=str
)
def test_megatron_files_that_do_not_fit_are_reported(tmp_path, damage, end):
    contents = write_export(Megatron(), tmp_path)
    path = next((tmp_path / "train").rglob(f"*.{damage}"))
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ValueError, match="export again"):
        next(Megatron().read_by_rule(tmp_path, contents))


def test_an_index_of_megatron_is_exact(tmp_path):
    documents = [np.array(ids, dtype="u2") for ids in ([1, 2, 999], [999], [5, 999])]
    write_shard(Megatron(), tmp_path, "part", documents)
    index = (tmp_path / "part.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    assert index[9:34] == bytes([1, *[0] * 7, 8, 3, *[0] * 7, 4, *[0] * 7])
    assert np.frombuffer(index[34:46], "<i4").tolist() == [3, 1, 2]
    assert np.frombuffer(index[46:], "<i8").tolist() == [0, 6, 8, 0, 1, 2, 3]
    write_shard(Megatron(), tmp_path, "large", documents, Tokenization("test", 100_000, 999))
    index = (tmp_path / "large.idx").read_bytes()
    assert index[17] == 4
    assert np.frombuffer(index[46:], "<i8").tolist() == [0, 12, 16, 0, 1, 2, 3]


def read_sources(folder):
    return yaml.safe_load((folder / "source_mixture.yaml").read_text())["sources"]


def test_olmo_core_gets_ratios_that_sum_to_exactly_one(tmp_path, rng):
    weights = dict(zip(WEIGHTS, (1 / 3, 1e-6, 2 / 3 - 1e-6), strict=True))
    write_export(OlmoCore(), tmp_path, weights=weights, target_tokens=10_000)
    ratios = [source["target_ratio"] for source in read_sources(tmp_path)]
    assert sum(map(Decimal, map(repr, ratios))) == 1
    assert ratios == pytest.approx(list(weights.values()), abs=1e-14)
    many = round_exactly(list(rng.dirichlet(np.ones(500))))
    assert sum(map(Decimal, map(repr, many))) == 1


def test_olmo_core_reads_the_weights_of_its_list(tmp_path):
    contents = write_export(OlmoCore(), tmp_path, target_tokens=20_000)
    rewrite(tmp_path / "source_mixture.yaml", "ratio: 0.5", "ratio: 0.2")
    rewrite(tmp_path / "source_mixture.yaml", "ratio: 0.3", "ratio: 0.6")
    shares = measure_shares(OlmoCore().read_by_rule(tmp_path, contents))
    assert shares == pytest.approx({"long books": 0.2, "notes": 0.6, "web/news": 0.2}, abs=0.01)


def test_a_long_run_of_olmo_core_is_checked_without_memory_for_all_of_its_samples(tmp_path):
    contents = write_export(OlmoCore(), tmp_path, target_tokens=SEQUENCE * 20_000_000)
    tracemalloc.start()
    shares = measure_shares(OlmoCore().read_by_rule(tmp_path, contents), count=20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # 20 million samples would need 320 MB
    assert shares == pytest.approx(WEIGHTS, abs=0.015)


def test_olmo_core_may_repeat_a_domain_as_often_as_the_search_allowed(tmp_path):
    write_export(OlmoCore(), tmp_path, target_tokens=30_000, max_epochs=4.0)
    assert {source["max_repetition_ratio"] for source in read_sources(tmp_path)} == {4.0}


@pytest.mark.parametrize(
    ("max_epochs", "epochs", "needed", "limit"),
    [
        (4.0, 2.0, 2.0, 4.0),
        (0.5, 0.2, 0.2, 1.0),  # OLMo-core rejects less than 1
        (4.0, 4.0, 4.02, 4.025),  # the validation split took documents away
        (None, 2.5, 2.5, 3.0),
        (None, 0.2, 0.2, 1.0),
    ],
)
def test_the_limit_of_repetitions_suffices_for_the_target_run(max_epochs, epochs, needed, limit):
    domain = ExportedDomain("a", 1.0, 1, 1, 1.0, epochs, max_epochs)
    assert limit_repetition(domain, needed) == limit


def test_olmo_core_reports_a_source_with_too_few_tokens(tmp_path):
    contents = write_export(OlmoCore(), tmp_path, max_epochs=40.0)
    rewrite(tmp_path / "source_mixture.yaml", "ratio: 40.0", "ratio: 4.0")
    with pytest.raises(ValueError, match="more than max_repetition_ratio"):
        next(OlmoCore().read_by_rule(tmp_path, contents))


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_olmo_core_refuses_a_domain_whose_files_are_all_shorter_than_a_sequence(kind, tmp_path):
    contents = write_export(OlmoCore(), tmp_path, kind=kind)
    longest = max(s.sizes[0] // 2 for s in contents.list_shards("train"))
    long = dataclasses.replace(contents, sequence_length=longest + 1)
    with pytest.raises(ConfigError, match=f"a sequence has {longest + 1} tokens, but the longest"):
        OlmoCore().describe(long)


def test_a_chunk_of_litdata_is_one_file(tmp_path, rng):
    assert write_shard(LitData(), tmp_path, "part", make_documents(rng, 30, 5)) == ("part.bin",)


def test_a_chunk_of_litdata_has_less_than_4_gib(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("climb.export.formats.litdata.MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="lower shard_bytes"):
        write_shard(LitData(), tmp_path, "part", make_documents(rng, 30, 5))


def test_litdata_reads_the_weights_of_its_arguments(tmp_path):
    contents = write_export(LitData(), tmp_path, tokens=60_000)
    rewrite(tmp_path / "combined.json", '"weight": 0.5', '"weight": 3.0')
    shares = measure_shares(LitData().read_by_rule(tmp_path, contents))
    assert shares["long books"] == pytest.approx(6 / 7, abs=0.03)


def test_a_domain_without_a_whole_block_is_an_error_in_litdata(tmp_path):
    contents = write_export(LitData(), tmp_path, tokens=400)
    long = dataclasses.replace(contents, sequence_length=1000)
    with pytest.raises(ConfigError, match="no chunk of notes has the 1001 tokens"):
        LitData().describe(long)


def test_only_chunks_with_a_block_count_and_domains_without_weight_do_not(tmp_path):
    contents = write_export(LitData(), tmp_path, tokens=20_000)
    tokens = max(shard.tokens for shard in contents.list_shards("train", "notes"))
    for length in (tokens - 1, tokens):
        exact = dataclasses.replace(contents, sequence_length=length)
        weights = {"long books": 0.0, "notes": 1.0, "web/news": 0.0}
        domains = tuple(dataclasses.replace(d, weight=weights[d.name]) for d in exact.domains)
        exact = dataclasses.replace(exact, domains=domains)
        if length < tokens:
            assert "combined.json" in LitData().describe(exact)
        else:
            with pytest.raises(ConfigError, match="notes"):
                LitData().describe(exact)


def test_an_index_of_litdata_that_does_not_fit_is_reported(tmp_path):
    contents = write_export(LitData(), tmp_path)
    path = next((tmp_path / "train").rglob("part-00000.bin"))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match="export again"):
        next(LitData().read_by_rule(tmp_path, contents))


def test_an_index_of_litdata_is_another_when_the_tokenizer_is(tmp_path):
    contents = write_export(LitData(), tmp_path)
    other = dataclasses.replace(contents, tokenization=Tokenization("other", 1000, 999))
    before, after = LitData().describe(contents), LitData().describe(other)
    assert before == LitData().describe(contents)
    assert all((before[path] != after[path]) == path.endswith("index.json") for path in before)


def test_nanotron_reads_the_weights_of_its_stage(tmp_path):
    contents = write_export(Nanotron(), tmp_path)
    rewrite(tmp_path / "nanotron.yaml", "- 0.5", "- 3.0")
    shares = measure_shares(Nanotron().read_by_rule(tmp_path, contents))
    assert shares["long books"] == pytest.approx(6 / 7, abs=0.02)


@pytest.mark.parametrize("ending", ["ds", "ds.index", "ds.metadata"])
def test_nanotron_files_that_do_not_fit_are_reported(tmp_path, ending):
    contents = write_export(Nanotron(), tmp_path)
    path = next((tmp_path / "train").rglob(f"part-00000.{ending}"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"|2\n", b"|2\n1") if "meta" in ending else content[:-8])
    with pytest.raises(ValueError, match="export again"):
        next(Nanotron().read_by_rule(tmp_path, contents))


def test_nanotron_gets_one_tokenizer_for_its_files_and_its_configuration(tmp_path):
    fmt = Nanotron(tokenizer="my/tokenizer")
    write_export(fmt, tmp_path)
    config = yaml.safe_load((tmp_path / "nanotron.yaml").read_text())
    names = {path.read_text().split("|")[0] for path in tmp_path.rglob("*.metadata")}
    names.add(config["tokenizer"]["tokenizer_name_or_path"])
    names.add(config["data_stages"][0]["data"]["dataset"]["tokenizer_name"])
    assert names == {"my/tokenizer"}


def test_every_pass_of_nanotron_has_the_same_samples_and_repeats_short_folders():
    samples = draw_samples([0.5, 0.5], [2, 6], 0)
    first, second = [[next(samples) for _ in range(8)] for _ in range(2)]
    assert first == second
    assert sorted(first) == [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    with pytest.raises(ValueError, match="too few tokens"):
        next(draw_samples([0.5, 0.5], [2, 0], 0))


def test_automodel_reads_the_weights_of_its_section(tmp_path):
    weights = {"long books": 0.25, "notes": 0.75}
    contents = write_export(Automodel(), tmp_path, weights=weights)
    path = tmp_path / "automodel.yaml"
    config = yaml.safe_load(path.read_text())
    listed = config["dataset"]["paths"]["train"]
    config["dataset"]["paths"]["train"] = ["3.0", *listed[1:2], "1.0", *listed[-1:]]
    path.write_text(yaml.safe_dump(config))
    shares = measure_shares(Automodel().read_by_rule(tmp_path, contents))
    assert shares == pytest.approx({"long books": 0.75, "notes": 0.25}, abs=0.001)


def test_automodel_has_no_section_for_a_split_without_documents(tmp_path):
    contents = write_export(Automodel(), tmp_path)
    train = dataclasses.replace(contents, shards=tuple(contents.list_shards("train")))
    before = yaml.safe_load(Automodel().describe(contents)["automodel.yaml"])
    after = yaml.safe_load(Automodel().describe(train)["automodel.yaml"])
    assert before.keys() == {"dataset", "validation_dataset"}
    assert after == {"dataset": before["dataset"]}
