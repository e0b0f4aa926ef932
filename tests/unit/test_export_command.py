"""`climb export` without Spark: files of the user's own, the check, and mistakes of one line."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from odd_formats import Talking
from text_export import WEIGHTS, make_export
from token_export import write_shard

from climb.cli.commands import climb
from climb.errors import ConfigError, InputError, MixtureError, PreflightError
from climb.export import loader
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.levanter import Levanter
from climb.export.formats.lingua import Lingua
from climb.export.formats.megatron import Megatron
from climb.export.index import read_export
from climb.export.loader import has_package, run_loader
from climb.files import mark_complete
from climb.tokenizer import train_json


def invoke(*arguments):
    """Run `climb export`; errors of climb are raised."""
    result = CliRunner().invoke(climb, ["export", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def own(tmp_path):
    """Files of a user: a mixture, tokens and documents, and a folder for each domain."""
    (tmp_path / "BEST.csv").write_text("domain,weight\nlaw,0.25\nweb,0.75\nnone,0.0\n")
    (tmp_path / "PRIOR.csv").write_text(
        "domain,tokens,documents\nlaw,40000,100\nweb,30000,3000\nnone,5,1\n"
    )
    for name, length in (("law", 400), ("web", 10)):
        documents = [np.full(length, 7, "uint16") for _ in range(20)]
        for part in range(2):
            write_shard(Megatron(), tmp_path / "data" / name, f"part-{part}", documents)
    (tmp_path / "tokenizer.json").write_text(train_json(["some text"] * 9, 300))
    return tmp_path


def options(own, *names):
    given = {name: own / f"{name.upper()}.csv" for name in ("mixture", "prior")}
    given["mixture"] = own / "BEST.csv"
    return [f"--{n}={given.get(n, own / 'data')}" for n in names or ("mixture", "prior", "data")]


def test_the_files_of_a_user_get_weights_of_tokens(own):
    output = invoke("--to", "megatron", "--out", own / "out", *options(own),
                    "--tokenizer", own / "tokenizer.json")  # fmt: skip
    assert "2 domains and 4 files for Megatron" in output
    lines = [line.split() for line in (own / "out" / "blend.txt").read_text().splitlines()]
    law = sum(float(weight) for weight, prefix in lines if "/law/" in prefix)
    assert law == pytest.approx(0.25)
    assert all((own / "data").as_posix() in prefix for _, prefix in lines)
    domains = {domain.name: domain for domain in read_export(own / "out").contents.domains}
    assert domains["law"].epochs == pytest.approx(0.25 * 40e9 / 40_000)
    card = (own / "out" / "README.md").read_text()
    assert "| web | 0.75000 | 0.99174 | 10.0 |" in card  # 0.75 / 10 against 0.25 / 400


def test_shards_of_short_and_long_documents_are_weighed_by_their_tokens(own):
    """Not by the size of their index, which grows with the number of documents."""
    for name, length in (("long", 2000), ("short", 10)):
        documents = [np.full(length, 7, "uint16") for _ in range(20_000 // length)]
        write_shard(Megatron(), own / "data" / "books", name, documents)
    (own / "BEST.csv").write_text("domain,weight\nbooks,1.0\n")
    (own / "PRIOR.csv").write_text("domain,tokens\nbooks,40000\n")
    invoke("--to", "megatron", "--out", own / "out", *options(own),
           "--tokenizer", own / "tokenizer.json")  # fmt: skip
    assert json.loads((own / "out" / "blend.json").read_text())["train"][::2] == ["0.5", "0.5"]


def test_the_files_of_a_user_are_checked_where_they_store_tokens(own):
    invoke("--to", "megatron", "--out", own / "out", *options(own),
           "--tokenizer", own / "tokenizer.json")  # fmt: skip
    output = invoke("--verify", "--out", own / "out", "--samples", 4000)
    assert "the samples match the mixture" in output
    blend = (own / "out" / "blend.json").read_text()
    (own / "out" / "blend.json").write_text(blend.replace("0.125", "0.9"))
    (own / "out" / "blend.txt").write_text(
        (own / "out" / "blend.txt").read_text().replace("0.125", "0.9")
    )
    mark(own / "out")
    with pytest.raises(MixtureError, match=r"web should be 0.7500 of the tokens"):
        invoke("--verify", "--out", own / "out", "--samples", 4000)


def test_the_weights_of_the_same_files_are_not_written_again(own):
    arguments = ["--to", "megatron", *options(own), "--tokenizer", own / "tokenizer.json"]
    invoke(*arguments, "--out", own / "out")
    assert "is up to date" in invoke(*arguments, "--out", own / "out")
    write_shard(Megatron(), own / "data" / "law", "part-2", [np.full(9, 7, "uint16")])
    assert "5 files for Megatron" in invoke(*arguments, "--out", own / "out")


def test_a_link_to_a_large_disk_is_followed_and_stays(own):
    (own / "link").symlink_to(own / "disk" / "out")
    arguments = ["--to", "megatron", *options(own), "--tokenizer", own / "tokenizer.json"]
    for _ in range(2):
        output = invoke(*arguments, "--out", own / "link", "--verify", "--samples", 4000)
        assert str(own / "disk" / "out") in output
    assert (own / "link").is_symlink()
    assert [path.name for path in (own / "disk").iterdir()] == ["out"]


def test_files_of_a_nested_domain_and_of_a_linked_folder_belong_to_one_domain(own):
    """`law/cases` has weight 0 here, so none of its files is named."""
    (own / "BEST.csv").write_text("domain,weight\nlaw,0.25\nweb,0.75\nlaw/cases,0.0\n")
    (own / "PRIOR.csv").write_text(
        "domain,tokens,documents\nlaw,40000,100\nweb,30000,3000\nlaw/cases,5,1\n"
    )
    write_shard(Megatron(), own / "data" / "law" / "cases", "a", [np.full(9, 7, "uint16")])
    write_shard(Megatron(), own / "disk2", "b", [np.full(9, 7, "uint16")])
    (own / "data" / "web" / "more").symlink_to(own / "disk2")
    arguments = ["--to", "megatron", *options(own), "--tokenizer", own / "tokenizer.json"]
    assert "2 domains and 5 files" in invoke(*arguments, "--out", own / "out")
    blend = (own / "out" / "blend.txt").read_text()
    assert "cases" not in blend
    assert "web/more/b" in blend


def test_weights_of_documents_need_the_documents_of_every_domain(own):
    (own / "PRIOR.csv").write_text("domain,tokens\nlaw,40000\nweb,30000\nnone,5\n")
    with pytest.raises(InputError, match="no column `documents`; JsonLines counts documents"):
        invoke("--to", "jsonl", "--out", own / "out", *options(own))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (["--to=megatron"], ConfigError, "stores tokens: name the tokenizer"),
        (["--to=nanochat"], ConfigError, "cannot be used with --mixture and --data"),
        (
            ["--to=olmo-core", "--tokenizer=TOKENIZER"],
            InputError,
            "no non-empty file that ends in .npy",
        ),
    ],
)
def test_what_a_format_cannot_do_with_the_files_of_a_user_is_said(own, change, error, message):
    change = [text.replace("TOKENIZER", str(own / "tokenizer.json")) for text in change]
    with pytest.raises(error, match=message):
        invoke(*change, "--out", own / "out", *options(own))
    assert not (own / "out").exists()


@pytest.mark.parametrize("web", [0.075, 75.0])
def test_weights_that_do_not_sum_to_one_are_refused(own, web):
    (own / "BEST.csv").write_text(f"domain,weight\nlaw,0.25\nweb,{web}\nnone,0.0\n")
    with pytest.raises(InputError, match=r"BEST\.csv: weights sum to .*; they must sum to 1"):
        invoke("--to", "hf", "--out", own / "out", *options(own))
    assert not (own / "out").exists()


def test_shares_instead_of_tokens_are_refused(own):
    (own / "PRIOR.csv").write_text("domain,tokens\nlaw,0.5\nweb,0.4\nnone,0.1\n")
    with pytest.raises(InputError, match="needs the number of tokens"):
        invoke("--to", "megatron", "--out", own / "out", *options(own),
               "--tokenizer", own / "tokenizer.json")  # fmt: skip


def test_domains_that_differ_are_named(own):
    (own / "PRIOR.csv").write_text("domain,tokens\nlaw,40000\nwebb,30000\nnone,5\n")
    with pytest.raises(InputError, match="missing: web; unexpected: webb"):
        invoke("--to", "megatron", "--out", own / "out", *options(own),
               "--tokenizer", own / "tokenizer.json")  # fmt: skip


def test_options_for_files_of_a_user_are_used_together(own):
    with pytest.raises(ConfigError, match="at least one is missing"):
        invoke("--to", "megatron", *options(own, "mixture", "prior"))


def test_an_export_of_text_is_checked_by_rule_and_says_so(tmp_path):
    make_export(Lingua(), tmp_path / "out", "recipe")
    mark(tmp_path / "out")
    output = invoke("--verify", "--out", tmp_path / "out", "--samples", 5000)
    assert "5,000 samples of the files, read by the rules of the format:" in output
    assert "the samples match the mixture" in output


def test_a_loader_that_joins_documents_is_an_error_about_their_lengths(tmp_path, monkeypatch):
    make_export(Lingua(), tmp_path / "out", "recipe")
    mark(tmp_path / "out")
    load = loader.run_loader

    def join(*arguments):
        counted = load(*arguments)
        return counted | {"chat": replace(counted["chat"], tokens=2 * counted["chat"].tokens)}

    monkeypatch.setattr(loader, "run_loader", join)
    with pytest.raises(
        MixtureError, match=r"samples of chat have other lengths than the documents"
    ):
        invoke("--verify", "--out", tmp_path / "out", "--samples", 5000)


def test_a_weight_that_was_changed_does_not_arrive(tmp_path):
    make_export(JsonLines(), tmp_path / "out", "recipe")
    path = tmp_path / "out" / "weights.json"
    values = json.loads(path.read_text())
    for domain in values["domains"].values():
        domain["document_weight"] = domain["token_weight"]
    path.write_text(json.dumps(values))
    mark(tmp_path / "out")
    with pytest.raises(MixtureError, match=r"law should be 0.2000 .* delivers 0\.[6-9]"):
        invoke("--verify", "--out", tmp_path / "out", "--samples", 5000)


def test_the_check_exits_with_1_and_one_line(tmp_path):
    script = "from climb.cli.commands import main; main()"
    command = [sys.executable, "-c", script, "export", "--verify", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not an export of climb" in done.stderr


def test_a_loader_that_fails_is_reported_with_its_last_line(tmp_path):
    contents = make_export(JsonLines(), tmp_path, "recipe")
    for shard in contents.shards:
        for file in shard.files:
            (tmp_path / file).unlink()
    with pytest.raises(
        PreflightError, match=r"reading the export .* with .* failed: FileNotFoundError"
    ):
        run_loader(tmp_path, 10, sys.executable, by_rule=True)


def test_an_interpreter_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(PreflightError, match=r"--python /nowhere/python: No such file"):
        has_package("/nowhere/python", "datasets")


@pytest.mark.parametrize("program", ["/bin/ls", "/bin/true"])
def test_a_program_that_is_no_python_is_not_an_interpreter_without_the_package(program):
    with pytest.raises(PreflightError, match=f"--python {program}: this is no Python interpreter"):
        has_package(program, "datasets")


def test_a_package_inside_another_is_found():
    assert has_package(sys.executable, "xml.etree")
    assert not has_package(sys.executable, "megatron_of_nobody.core")


def test_what_the_loader_prints_itself_is_ignored(tmp_path):
    """The format is a module of the user, which the other process finds too."""
    make_export(Talking(), tmp_path, "recipe")
    counted = run_loader(tmp_path, 300, sys.executable, by_rule=True)
    assert set(counted) == set(WEIGHTS)
    assert sum(own.samples for own in counted.values()) == 300


def mark(folder):
    """Complete an export that a helper of the tests has written."""
    mark_complete(folder)


def test_an_export_without_a_file_is_not_checked(tmp_path):
    contents = make_export(Lingua(), tmp_path, "recipe")
    with pytest.raises(InputError, match="a file is missing"):
        invoke("--verify", "--out", tmp_path)
    mark(tmp_path)
    (tmp_path / contents.shards[0].files[0]).unlink()
    with pytest.raises(InputError, match="a file is missing"):
        invoke("--verify", "--out", tmp_path)


def test_a_moved_export_that_names_the_old_folder_is_not_checked(tmp_path):
    make_export(Lingua(), tmp_path / "old", "recipe")
    mark(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(InputError, match=r"data.yaml names files in .*old, where the export"):
        invoke("--verify", "--out", tmp_path / "new")


def test_an_export_with_relative_paths_may_move(tmp_path):
    make_export(JsonLines(), tmp_path / "old", "recipe")
    mark(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    output = invoke("--verify", "--out", tmp_path / "new", "--samples", 5000)
    assert "the samples match the mixture" in output


def test_sequences_of_a_mixed_export_are_counted_and_not_tested(tmp_path):
    make_export(Levanter(), tmp_path, "mixed")
    mark(tmp_path)
    output = invoke("--verify", "--out", tmp_path, "--samples", 500)
    assert "A sequence contains several domains" in output
    assert "chi-square" not in output


def test_a_folder_in_the_working_directory_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "litdata_of_nobody").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not has_package(sys.executable, "litdata_of_nobody")


def test_options_that_change_nothing_are_refused(own):
    with pytest.raises(ConfigError, match="need --to FORMAT, which writes the export again"):
        invoke("--verify", "--out", own, "--kind", "mixed")
    with pytest.raises(ConfigError, match="your files are not mixed"):
        invoke("--to", "jsonl", "--kind", "mixed", "--out", own / "out", *options(own))
    with pytest.raises(ConfigError, match="stores text, which the trainer tokenizes"):
        invoke("--to", "jsonl", "--tokenizer", own, "--out", own / "out", *options(own))
