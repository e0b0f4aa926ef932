"""Every format keeps the contract, and the check of the contract finds those that do not."""

import dataclasses
from typing import ClassVar

import pytest

from climb.config import build
from climb.errors import ConfigError
from climb.export import Format, documents
from climb.export.formats import FORMATS, find_format, list_for_own_files
from climb.export.formats.jsonl import JsonLines
from climb.export.formats.lingua import Lingua
from climb.export.groups import escape_name
from climb.export.writers.jsonl import JsonLinesWriter
from climb.testing.contracts_export import check_format


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_keeps_the_contract(name, tmp_path):
    check_format(build(find_format(name), Format), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsOfTokens(Lingua):
    """Calls its weights weights of documents, but writes those of tokens."""

    def describe(self, contents):
        same = dataclasses.replace
        domains = tuple(same(d, documents=1000, tokens=1000) for d in contents.domains)
        return super().describe(same(contents, domains=domains))


def test_weights_in_the_wrong_unit_are_found(tmp_path):
    with pytest.raises(AssertionError, match="their unit must be documents"):
        check_format(WeightsOfTokens(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsOfContents(JsonLines):
    """Reads its weights from the contents instead of the files."""

    kinds: ClassVar = ("recipe",)

    def read_by_rule(self, folder, contents):
        weights = documents.weigh_documents(contents)
        sources = []
        for name, _, shards in contents.list_groups():
            files = [folder / file for shard in shards for file in shard.files]
            reader = documents.repeat_files(documents.read_json_lines, files)
            sources.append((weights[name], reader))
        return documents.draw_documents(sources, 0)


def test_weights_that_are_not_read_from_the_files_are_found(tmp_path):
    with pytest.raises(AssertionError, match="must be read from the files"):
        check_format(WeightsOfContents(), tmp_path)


class WriterOfBatches(JsonLinesWriter):
    def write(self, rows, ids_N):
        super().write(rows, ids_N)
        self._pending += b"\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DependsOnBatches(JsonLines):
    """Ends every batch with an empty line."""

    def open_shard(self, path, tokenization):
        return WriterOfBatches(path, "none")


def test_bytes_that_depend_on_batches_are_found(tmp_path):
    with pytest.raises(AssertionError, match="depend on how rows are divided"):
        check_format(DependsOnBatches(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeedsValidation(Lingua):
    """Assumes that there is a validation split; raises another error than ConfigError."""

    error: type[Exception] = IndexError

    def describe(self, contents):
        if not contents.list_shards("validation"):
            raise self.error("no validation")
        return super().describe(contents)


def test_an_export_without_validation_that_fails_is_found(tmp_path):
    with pytest.raises(AssertionError, match="describe fails without a validation split"):
        check_format(NeedsValidation(), tmp_path)


def test_a_format_may_refuse_an_export_without_validation(tmp_path):
    check_format(NeedsValidation(error=ConfigError), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadsNothing(Lingua):
    """Reads nothing where there is no validation split."""

    def read_by_rule(self, folder, contents):
        if not contents.list_shards("validation"):
            return iter(())
        return super().read_by_rule(folder, contents)


def test_an_export_without_validation_that_is_not_read_is_found(tmp_path):
    with pytest.raises(AssertionError, match="reads nothing"):
        check_format(ReadsNothing(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplacesShard(Lingua):
    """Writes a configuration over a shard."""

    def describe(self, contents):
        return super().describe(contents) | {f"./{contents.shards[0].files[0]}": "text"}


def test_a_configuration_with_the_path_of_a_shard_is_found(tmp_path):
    with pytest.raises(AssertionError, match=r"describe replaces train/.+ is a file of a shard"):
        check_format(ReplacesShard(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WritesOutside(Lingua):
    """Names a further file, or all shards."""

    path: str = "file"
    stem: str = ""

    def name_shard(self, split, domain, index, count):
        return self.stem + super().name_shard(split, domain, index, count)

    def describe(self, contents):
        return {**super().describe(contents), self.path: "text"}


@pytest.mark.parametrize("path", ["../file", "a/../../file", "{tmp_path}/file", ""])
def test_a_configuration_outside_the_folder_is_found(tmp_path, path):
    form = WritesOutside(path=path.format(tmp_path=tmp_path))
    with pytest.raises(AssertionError, match="describe returned the path"):
        check_format(form, tmp_path / "check")


@pytest.mark.parametrize("stem", ["../", "{tmp_path}/"])
def test_a_shard_outside_the_folder_is_found(tmp_path, stem):
    form = WritesOutside(stem=stem.format(tmp_path=tmp_path))
    with pytest.raises(AssertionError, match="name_shard must return a path in the folder"):
        check_format(form, tmp_path / "check")


@dataclasses.dataclass
class NotFrozen:
    """A format that `climb export` refuses."""

    unit, kinds, stores_tokens, endings, loader = "documents", ("recipe",), False, (), ""
    shard_bytes, compression, level = 1 << 28, "none", 3
    name_shard, open_shard = JsonLines.name_shard, JsonLines.open_shard
    describe = JsonLines.describe
    read_samples, read_by_rule = JsonLines.read_samples, JsonLines.read_by_rule


def test_a_format_that_is_not_frozen_is_found(tmp_path):
    with pytest.raises(AssertionError, match="a format must be a frozen dataclass"):
        check_format(NotFrozen(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamesOfDomains(Lingua):
    """Looks for folders of the names of domains, which are escaped in paths."""

    def describe(self, contents):
        text = super().describe(contents)["data.yaml"]
        for domain in contents.domains:
            text = text.replace(escape_name(domain.name), domain.name)
        return {"data.yaml": text}


def test_names_that_are_not_escaped_are_found(tmp_path):
    with pytest.raises(AssertionError, match="no documents in its files"):
        check_format(NamesOfDomains(), tmp_path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breaks(Lingua):
    """Breaks one rule."""

    rule: str

    @property
    def kinds(self):
        return {"a string": "recipe", "unknown": ("recipes",)}.get(self.rule, ("recipe",))

    def name_shard(self, split, domain, index, count):
        stem = super().name_shard(split, domain, index, count)
        return {"no name": None, "one name": f"{split}/x.{index}"}.get(self.rule, stem)

    def open_shard(self, path, tokenization):
        return None if self.rule == "no writer" else super().open_shard(path, tokenization)

    def describe(self, contents):
        return None if self.rule == "no files" else super().describe(contents)


@pytest.mark.parametrize(
    ("rule", "stated"),
    [
        ("a string", "kinds is 'recipe'; it must be a tuple"),
        ("unknown", r"kinds is \('recipes',\); it must be a tuple"),
        ("no name", "name_shard must return a path in the folder; found None"),
        ("one name", "must give each shard a path of its own; x.0 is there"),
        ("no writer", "kind recipe must not fail; found AttributeError"),
        ("no files", "describe returned NoneType"),
    ],
)
def test_the_check_of_a_format_states_the_broken_rule(tmp_path, rule, stated):
    with pytest.raises(AssertionError, match=stated):
        check_format(Breaks(rule=rule), tmp_path)


def test_an_unknown_format_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'megatron'\?"):
        find_format("megatrn")


def test_a_format_of_the_user_is_named_by_its_class():
    assert find_format("mine:Mine") == {"use": "mine:Mine"}


def test_formats_that_need_index_files_of_climb_cannot_name_files_of_the_user():
    able = set(list_for_own_files())
    assert {"megatron", "olmo-core", "hf"} <= able
    assert not able & {"nanochat", "energon", "streaming", "litdata"}
