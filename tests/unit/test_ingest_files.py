"""Inputs lead to files by path, folder, glob and URI; everything else is named."""

import pytest

from climb.errors import InputError
from climb.ingest.files import find_files, glob_regex, kind_of


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "x"}\n')


def names(found, folder):
    return [file.name.removeprefix(f"{folder}/") for file in found.files]


def test_a_folder_is_searched_to_its_depth_in_order_of_name(tmp_path):
    make(tmp_path, "b.jsonl", "a/deep/c.TXT", "a/d.md", "e.jsonl.zst")
    found = find_files([str(tmp_path)])
    assert names(found, tmp_path) == ["a/d.md", "a/deep/c.TXT", "b.jsonl", "e.jsonl.zst"]
    assert [file.kind for file in found.files] == ["text", "text", "jsonl", "jsonl"]
    assert not found.problems


def test_hidden_files_and_marks_of_spark_are_passed_over(tmp_path):
    make(tmp_path, "a.jsonl", ".b.jsonl", ".git/c.jsonl", "_SUCCESS", "_delta_log/0.json")
    found = find_files([str(tmp_path)])
    assert names(found, tmp_path) == ["a.jsonl"]
    assert not found.problems


def test_a_glob_stays_in_its_folder_unless_it_has_two_stars(tmp_path):
    make(tmp_path, "a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl", "e.txt")
    assert names(find_files([f"{tmp_path}/*.jsonl"]), tmp_path) == ["a.jsonl", "b.jsonl"]
    assert len(find_files([f"{tmp_path}/**/*.jsonl"]).files) == 4
    assert names(find_files([f"{tmp_path}/x*"]), tmp_path) == ["x/c.jsonl", "x/y/d.jsonl"]
    assert names(find_files([f"{tmp_path}/[!a].jsonl"]), tmp_path) == ["b.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    make(tmp_path, "a[1].jsonl", "a1.jsonl")
    assert names(find_files([f"{tmp_path}/a[1].jsonl"]), tmp_path) == ["a[1].jsonl"]


def test_a_uri_leads_to_the_same_files_as_its_path(tmp_path):
    make(tmp_path, "a.jsonl", "x/b.jsonl")
    assert find_files([f"file://{tmp_path}"]) == find_files([str(tmp_path)])
    assert find_files([f"file://{tmp_path}/*.jsonl"]) == find_files([f"{tmp_path}/*.jsonl"])


def test_a_file_that_two_inputs_name_is_read_once(tmp_path):
    make(tmp_path, "a.jsonl", "b.jsonl")
    found = find_files([str(tmp_path), f"{tmp_path}/a.jsonl", f"{tmp_path}/*.jsonl"])
    assert names(found, tmp_path) == ["a.jsonl", "b.jsonl"]


def test_unknown_endings_empty_files_and_empty_folders_are_problems(tmp_path):
    make(tmp_path, "a.jsonl", "b.csv", "c", "full.parquet/part.parquet")
    (tmp_path / "d.jsonl").touch()
    (tmp_path / "e.txt").touch()
    (tmp_path / "f.parquet").mkdir()
    found = find_files([str(tmp_path)])
    problems = {p.name.removeprefix(f"{tmp_path}/"): (p.reason, p.detail) for p in found.problems}
    assert sorted(problems) == ["b.csv", "c", "d.jsonl", "f.parquet"]
    assert problems["b.csv"][0] == "foreign_file"
    assert ".csv is not one of .parquet, .jsonl" in problems["b.csv"][1]
    assert problems["d.jsonl"] == ("truncated_file", "zero bytes")
    assert problems["f.parquet"] == ("foreign_file", "a folder with nothing in it")
    assert names(found, tmp_path) == ["a.jsonl", "e.txt", "full.parquet/part.parquet"]


def test_a_pipe_is_a_problem_and_is_never_opened(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.jsonl")
    assert find_files([str(tmp_path)]).problems[0].detail == "not a regular file"


def test_inputs_that_lead_nowhere_are_all_named(tmp_path):
    make(tmp_path, "a.jsonl")
    with pytest.raises(InputError, match=r"nothing is at '.*/b.jsonl', '.*/\*.parquet'"):
        find_files([f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl", f"{tmp_path}/*.parquet"])
    with pytest.raises(InputError, match=r"ingest\.inputs is empty"):
        find_files([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no documents: there are no files in '.*/empty'"):
        find_files([f"{tmp_path}/empty"])
    with pytest.raises(InputError, match="'nosuch://x/y' cannot be listed"):
        find_files(["nosuch://x/y"])


def test_the_digest_changes_with_name_size_and_date(tmp_path):
    make(tmp_path, "a.jsonl")
    first = find_files([str(tmp_path)]).digest()
    assert find_files([str(tmp_path)]).digest() == first
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    renamed = find_files([str(tmp_path)]).digest()
    (tmp_path / "b.jsonl").write_text('{"text": "y"}\n')
    assert len({first, renamed, find_files([str(tmp_path)]).digest()}) == 3


def test_a_folder_that_a_glob_matches_brings_what_is_below():
    assert glob_regex("/d/x*").fullmatch("/d/xy/z.txt")
    assert not glob_regex("/d/*.txt").fullmatch("/d/xy/z.txt")
    assert glob_regex("/d/**/z.txt").fullmatch("/d/z.txt")
    assert not glob_regex("/d/a.txt").fullmatch("/d/aXtxt")


def test_endings_are_known_in_any_case_and_need_a_name():
    assert kind_of("A.JSONL.GZ") == "jsonl"
    assert kind_of("x.parquet.gz") is None
    assert kind_of("a/.txt") is None
