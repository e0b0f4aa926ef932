"""Inputs are expanded to files by path, folder, glob and URI; other entries become problems."""

import re
from types import SimpleNamespace

import pytest
from pyarrow import fs

from climb.errors import InputError
from climb.ingest.files import compile_glob, find_files
from climb.ingest.formats import detect_kind


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "x"}\n')


def names(listing, folder):
    return [file.name.removeprefix(f"{folder}/") for file in listing.files]


def test_a_folder_is_listed_recursively_in_order_of_name(tmp_path):
    make(tmp_path, "b.jsonl", "a/deep/c.TXT", "a/d.md", "e.jsonl.zst")
    listing = find_files([str(tmp_path)])
    assert names(listing, tmp_path) == ["a/d.md", "a/deep/c.TXT", "b.jsonl", "e.jsonl.zst"]
    assert [file.kind for file in listing.files] == ["text", "text", "jsonl", "jsonl"]
    assert not listing.problems


def test_hidden_files_and_markers_of_spark_are_ignored(tmp_path):
    make(tmp_path, "a.jsonl", ".b.jsonl", ".git/c.jsonl", "_SUCCESS", "README.md", "x/LICENSE")
    make(tmp_path, "x/dataset_info.json", "readme first.md")
    listing = find_files([str(tmp_path)])
    assert names(listing, tmp_path) == ["a.jsonl", "readme first.md"]
    assert not listing.problems
    ignored = [name.removeprefix(f"{tmp_path}/") for name in listing.ignored]
    hidden = [".b.jsonl", ".git", ".git/c.jsonl"]
    assert ignored == [*hidden, "README.md", "_SUCCESS", "x/LICENSE", "x/dataset_info.json"]
    assert names(find_files([f"{tmp_path}/README.md"]), tmp_path) == ["README.md"]


def test_a_glob_matches_one_folder_unless_it_has_two_stars(tmp_path):
    make(tmp_path, "a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl", "e.txt")
    assert names(find_files([f"{tmp_path}/*.jsonl"]), tmp_path) == ["a.jsonl", "b.jsonl"]
    assert len(find_files([f"{tmp_path}/**/*.jsonl"]).files) == 4
    assert names(find_files([f"{tmp_path}/x*"]), tmp_path) == ["x/c.jsonl", "x/y/d.jsonl"]
    assert names(find_files([f"{tmp_path}/[!a].jsonl"]), tmp_path) == ["b.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_found_by_its_name(tmp_path):
    make(tmp_path, "a[1].jsonl", "a1.jsonl")
    assert names(find_files([f"{tmp_path}/a[1].jsonl"]), tmp_path) == ["a[1].jsonl"]


def test_a_uri_finds_the_same_files_as_its_path(tmp_path):
    make(tmp_path, "a.jsonl", "x/b.jsonl")
    assert find_files([f"file://{tmp_path}"]) == find_files([str(tmp_path)])
    assert find_files([f"file://{tmp_path}/*.jsonl"]) == find_files([f"{tmp_path}/*.jsonl"])


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """The folder of a host's files, which Arrow opens by the host's URI and lists as it does."""

    def open_uri(uri):
        scheme, _, rest = uri.partition("://")
        host, _, path = rest.partition("?")[0].partition("/")
        container, _, account = host.rpartition("@")
        if scheme == "hdfs":
            return fs.LocalFileSystem(), f"/{path}"
        folder = str(tmp_path / account)
        bucket = "" if "." in host and not container else f"{container or host}/"
        return fs.SubTreeFileSystem(folder, fs.LocalFileSystem()), bucket + path

    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=open_uri))
    return tmp_path


REMOTE = {
    "s3://bucket/web?region=eu-west-1&endpoint_override=host": ("bucket", "s3://bucket/web"),
    "s3://bucket/w*?region=eu-west-1": ("bucket", "s3://bucket/web"),
    "s3a://bucket/web": ("bucket", "s3://bucket/web"),
    "gs://bucket/web": ("bucket", "gs://bucket/web"),
    "abfss://bucket@a.net/web": ("a.net", "abfss://bucket@a.net/web"),
    "abfss://bucket@a.net/w*": ("a.net", "abfss://bucket@a.net/web"),
    "abfss://a.net/bucket/web": ("a.net", "abfss://a.net/bucket/web"),
}


@pytest.mark.parametrize("uri", REMOTE)
def test_the_name_of_a_remote_file_is_its_uri(remote, uri):
    host, folder = REMOTE[uri]
    make(remote / host / "bucket" / "web", "x/a.jsonl")
    assert [file.name for file in find_files([uri]).files] == [f"{folder}/x/a.jsonl"]


def test_files_of_two_accounts_or_hosts_are_all_listed(remote):
    for account in ("europe.net", "usa.net"):
        make(remote / account / "corpus" / "web", "a.jsonl")
    uris = [f"abfss://corpus@{account}/web" for account in ("europe.net", "usa.net")]
    uris += [f"hdfs://{host}{remote}/usa.net/corpus/web" for host in ("nn:8020", "other:8020")]
    assert [file.name for file in find_files(uris).files] == [f"{uri}/a.jsonl" for uri in uris]


@pytest.mark.parametrize(
    ("host", "uri"),
    [("a.net", "abfss://bucket@a.net/"), ("bucket", "s3a://bucket/"), ("bucket", "s3://bucket/")],
)
def test_the_name_of_a_remote_table_is_a_uri_that_spark_opens(remote, host, uri):
    make(remote / host / "bucket" / "lake", "t/_delta_log/0.json", "t/a.parquet")
    assert find_files([f"{uri}lake"]).tables == (f"{uri}lake/t",)
    with pytest.raises(InputError, match=re.escape(f"name the whole table: delta:{uri}lake/t")):
        find_files([f"{uri}lake/t/a.parquet"])


def test_a_file_that_two_inputs_match_is_listed_once(tmp_path):
    make(tmp_path, "a.jsonl", "b.jsonl")
    listing = find_files([str(tmp_path), f"{tmp_path}/a.jsonl", f"{tmp_path}/*.jsonl"])
    assert names(listing, tmp_path) == ["a.jsonl", "b.jsonl"]


def test_unsupported_extensions_empty_files_and_empty_folders_are_problems(tmp_path):
    make(tmp_path, "a.jsonl", "b.pdf", "c", "g.parquet.gz", "full.parquet/part.parquet")
    (tmp_path / "d.parquet").touch()
    (tmp_path / "e.txt").touch()
    (tmp_path / "f.parquet").mkdir()
    listing = find_files([str(tmp_path)])
    problems = {p.name.removeprefix(f"{tmp_path}/"): (p.reason, p.detail) for p in listing.problems}
    assert sorted(problems) == ["b.pdf", "c", "d.parquet", "f.parquet", "g.parquet.gz"]
    assert problems["g.parquet.gz"][1].startswith(".parquet.gz is not one of")
    assert problems["b.pdf"][0] == "unsupported_format"
    assert ".pdf is not one of .parquet, .jsonl" in problems["b.pdf"][1]
    assert problems["d.parquet"] == ("truncated_file", "zero bytes")
    assert problems["f.parquet"] == ("unsupported_format", "a folder without files")
    assert names(listing, tmp_path) == ["a.jsonl", "e.txt", "full.parquet/part.parquet"]


def test_a_named_pipe_is_a_problem_and_is_not_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.jsonl")
    assert find_files([str(tmp_path)]).problems[0].detail == "not a regular file"


def test_the_error_names_all_inputs_that_match_nothing(tmp_path):
    make(tmp_path, "a.jsonl")
    with pytest.raises(InputError, match=r"no such file or folder: '.*/b.jsonl', '.*/\*.parquet'"):
        find_files([f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl", f"{tmp_path}/*.parquet"])
    with pytest.raises(InputError, match=r"ingest\.inputs is empty"):
        find_files([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no documents: there are no files in '.*/empty'"):
        find_files([f"{tmp_path}/empty"])
    with pytest.raises(InputError, match="'nosuch://x/y' cannot be listed"):
        find_files(["nosuch://x/y"])


def test_the_digest_changes_with_name_size_and_modification_time(tmp_path):
    make(tmp_path, "a.jsonl")
    first = find_files([str(tmp_path)]).digest()
    assert find_files([str(tmp_path)]).digest() == first
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    renamed = find_files([str(tmp_path)]).digest()
    (tmp_path / "b.jsonl").write_text('{"text": "y"}\n')
    assert len({first, renamed, find_files([str(tmp_path)]).digest()}) == 3


def test_a_glob_also_matches_everything_below_a_matching_folder():
    assert compile_glob("/d/x*").fullmatch("/d/xy/z.txt")
    assert not compile_glob("/d/*.txt").fullmatch("/d/xy/z.txt")
    assert compile_glob("/d/**/z.txt").fullmatch("/d/z.txt")
    assert not compile_glob("/d/a.txt").fullmatch("/d/aXtxt")


def test_extensions_are_matched_in_any_case_and_need_a_file_stem():
    assert detect_kind("A.JSONL.GZ") == "jsonl"
    assert detect_kind("x.parquet.gz") is None
    assert detect_kind("a/.txt") is None
