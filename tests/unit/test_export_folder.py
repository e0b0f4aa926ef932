"""The folder of an export is complete or not there, whenever the process is killed."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from text_export import make_export, name_format

from climb.errors import ComponentError, ConfigError
from climb.export import folder
from climb.export.card import CardFacts
from climb.export.folder import Target
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.levanter import Levanter
from climb.export.formats.lingua import Lingua
from climb.export.formats.streaming import Streaming
from climb.export.index import INDEX, MARK, read_export
from climb.export.render import FinishedExport, render_files
from climb.files import is_complete
from climb.files.complete import digest_file, read_mark

PLAN, OTHER = {"a": 1}, {"a": 2}


def write_shard(target, text="text"):
    (target.data / "train").mkdir(exist_ok=True)
    (target.data / "train" / "x").write_text(text)


def finish(target, plan):
    digests = {"train/x": digest_file(target.data / "train" / "x")}
    index = f'{{"mark": "{MARK}", "plan": {{"a": {plan["a"]}}}}}'
    target.finish({INDEX: index}, digests)


def export(path, plan, text="text"):
    """Write a whole export of one shard, as the job does."""
    target = Target(path)
    if target.is_current(plan):
        return False
    if not target.start(plan) or not (target.data / "train" / "x").exists():
        write_shard(target, text)
    finish(target, plan)
    return True


@pytest.fixture(params=["renames", "no renames"])
def path(request, tmp_path, monkeypatch):
    if request.param == "no renames":
        monkeypatch.setattr(folder, "can_rename", lambda parent: False)
    return tmp_path / "out"


def read(path):
    files = [p for p in path.rglob("*") if p.is_file()]
    return {p.relative_to(path).as_posix(): p.read_text(errors="replace") for p in files}


def test_a_finished_export_leaves_nothing_beside_it(path):
    assert export(path, PLAN)
    assert [p.name for p in path.parent.iterdir()] == ["out"]
    assert is_complete(path)
    assert not export(path, PLAN)


def test_another_plan_replaces_the_export(path):
    export(path, PLAN, "old")
    assert export(path, OTHER, "new")
    assert read(path)["train/x"] == "new"
    assert [p.name for p in path.parent.iterdir()] == ["out"]


class KilledError(BaseException):
    """The process dies here."""


class Killer:
    """Dies at the n-th call of one of the functions that change folders."""

    def __init__(self, monkeypatch, n, after):
        self.left, self.after = n, after
        for owner, name in ((Path, "rename"), (shutil, "rmtree"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, real):
        def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise KilledError
            result = real(*args, **kwargs)
            if self.left == 0:
                raise KilledError
            return result

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_change_of_a_folder_loses_nothing(path, monkeypatch, after):
    """The export of PLAN is replaced by one of OTHER, and killed at every change in turn."""
    n_kills = 0
    for n in range(1, 40):
        for left in path.parent.iterdir():
            shutil.rmtree(left)
        export(path, PLAN, "old")
        with monkeypatch.context() as patched:
            Killer(patched, n, after)
            try:
                export(path, OTHER, "new")
                break
            except KilledError:
                n_kills += 1
        if path.exists() and (path / "complete.json").exists() and is_complete(path):
            assert read(path)["train/x"] in ("old", "new")
        export(path, OTHER, "new")
        assert is_complete(path)
        assert read(path)["train/x"] == "new"
        # A killed probe of the file system may leave its empty folder.
        left = [p.name for p in path.parent.iterdir() if not p.name.startswith(".climb-")]
        assert left == ["out"]
    assert n_kills >= 5


def test_files_of_the_user_are_refused_also_after_a_kill(tmp_path):
    path = tmp_path / "out"
    Target(path).start(PLAN)
    path.mkdir()
    (path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="are not an export of climb"):
        export(path, PLAN)
    assert (path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("path", ["notes.txt", "notes.txt/out", "notes.txt/a/out"])
def test_a_file_is_no_folder_for_an_export(tmp_path, path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"export.path: .*notes\.txt is a file; set export.path"):
        export(tmp_path / path, PLAN)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("notes.txt", "mine")]


def test_folders_of_the_user_with_similar_names_stay(tmp_path):
    for name in ("out.old", "out.writing", "out.unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    export(tmp_path / "out", PLAN)
    export(tmp_path / "out", OTHER)
    assert {p.name for p in tmp_path.iterdir()} == {
        "out",
        "out.old",
        "out.writing",
        "out.unfinished",
    }


def test_an_export_that_lost_a_file_is_written_again(path):
    export(path, PLAN)
    (path / "train" / "x").unlink()
    assert export(path, PLAN)
    assert is_complete(path)


def export_text(path, plan, form):
    """Write an export of a format, as the job does, and return whether it was written."""
    target = Target(folder.follow_link(path))
    if target.is_current(plan):
        return False
    contents = make_export(form, target.path.with_name("made"), "recipe")
    target.start(plan)
    shutil.copytree(target.path.with_name("made"), target.data, dirs_exist_ok=True)
    digests = {n: digest_file(target.data / n) for shard in contents.shards for n in shard.files}
    shutil.rmtree(target.path.with_name("made"))
    contents = dataclasses.replace(contents, folder=str(target.path))
    export = FinishedExport(name_format(form), form, contents, plan, "search")
    target.finish(render_files(export, CardFacts(), digests), digests)
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describes(Lingua):
    """Returns the files that it is told to."""

    files: object

    def describe(self, contents):
        return self.files


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"../other/data.yaml": "x"}, r"the path '\.\./other/data\.yaml'; it must"),
        ({"/data.yaml": "x"}, "the path '/data.yaml'; it must"),
        ({"data.yaml": b"x"}, "'data.yaml': bytes; it must"),
        (None, "NoneType; it must"),
    ],
)
def test_a_format_whose_files_are_not_texts_in_the_folder_is_refused(tmp_path, files, found):
    contents = make_export(Lingua(), tmp_path / "made", "recipe")
    export = FinishedExport({}, Describes(files=files), contents, PLAN, "search")
    with pytest.raises(ComponentError, match=f"^Describes.describe returned {found}"):
        render_files(export, CardFacts(), {})


@pytest.mark.parametrize(
    "form", [Lingua(), Levanter(), Streaming(), JsonLines()], ids=lambda form: type(form).__name__
)
def test_an_export_that_was_moved_gets_the_paths_of_its_new_folder(tmp_path, form, capsys):
    old, new = tmp_path / "a" / "old", tmp_path / "b" / "a-longer-name"
    assert export_text(old, PLAN, form)
    before = read(old)
    new.parent.mkdir()
    old.rename(new)
    written = {name: (new / name).stat().st_mtime_ns for name in before}
    assert not export_text(new, PLAN, form)
    assert (
        capsys.readouterr().out == f"export   {new} was moved from {old}; its paths are updated\n"
    )
    read_export(new).check_files()
    after = read(new)
    moved = {name: text.replace(str(old), str(new)) for name, text in before.items()}
    assert after == moved | {"complete.json": after["complete.json"]}
    changed = {name for name, text in before.items() if moved[name] != text} | {"complete.json"}
    assert {n for n in before if (new / n).stat().st_mtime_ns != written[n]} == changed
    assert all(digest_file(new / name) == digest for name, digest in read_mark(new).items())
    assert not export_text(new, PLAN, form)
    assert capsys.readouterr().out == ""


def test_an_export_to_a_link_is_written_to_the_folder_behind_it(path):
    """Also if that folder does not exist yet, and again over an older export."""
    disk = path.parent / "disk" / "data"
    path.symlink_to(disk)
    assert export_text(path, PLAN, Lingua())
    assert export_text(path, OTHER, Lingua())
    assert not export_text(path, OTHER, Lingua())
    assert path.is_symlink()
    assert [p.name for p in disk.parent.iterdir()] == ["data"]
    assert f"root_dir: {disk}/train" in (disk / "data.yaml").read_text()
    read_export(folder.follow_link(path)).check_files()


def test_a_plan_with_tuples_is_that_of_the_file(path):
    """JSON has only lists."""
    plan = {"a": 1, "sizes": (1, 2)}
    assert export_text(path, plan, JsonLines())
    assert not export_text(path, plan, JsonLines())
    Target(path).start(plan | {"a": 2})
    assert Target(path).start(plan | {"a": 2})
