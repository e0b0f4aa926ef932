"""Configuration: layers of files, mistakes with their keys, plug-ins and their recipes."""

import sys
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pytest
import yaml

from climb.config import Config, ModelPath, build, dump_yaml, load, recipe_of
from climb.errors import ConfigError, PreflightError


@runtime_checkable
class Greeter(Protocol):
    def greet(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Hello:
    name: str
    times: int = 1
    model: ModelPath = "package:climb/py.typed"
    batch: int = field(default=8, metadata={"speed_only": True})

    def greet(self):
        return f"hello {self.name}" * self.times


@dataclass(frozen=True, kw_only=True)
class Mute:
    name: str


HERE = f"{__name__}:Hello"


def test_the_default_configuration_is_complete_and_survives_a_round_trip():
    cfg = load()
    assert Config.model_validate(yaml.safe_load(dump_yaml(cfg))) == cfg


def test_a_file_changes_some_keys_and_set_takes_precedence(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("cluster: {k: 50}\nsearch: {seed: 3}\n")
    cfg = load(path, ["search.seed=4", "storage.root=elsewhere"])
    assert (cfg.cluster.k, cfg.search.seed, cfg.storage.root) == (50, 4, "elsewhere")
    assert cfg.cluster.seed == load().cluster.seed


def test_a_plugin_of_another_class_replaces_the_whole_spec(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("embed: {embedder: {use: 'a.b:C', size: 3}}\n")
    assert load(path).embed.embedder == {"use": "a.b:C", "size": 3}


def test_a_field_may_be_set_before_the_class_that_has_it():
    settings = ["embed.embedder.size=3", "embed.embedder.use=a.b:C"]
    assert load(settings=settings).embed.embedder == {"use": "a.b:C", "size": 3}


@pytest.mark.parametrize("text", ["a #1.jsonl", "'a #1.jsonl'", '["a #1.jsonl"]'])
def test_one_string_is_accepted_for_a_list_of_strings_with_and_without_quotes(text):
    assert load(settings=[f"ingest.inputs={text}"]).ingest.inputs == ("a #1.jsonl",)


def test_every_mistake_is_reported_at_once_with_its_path_and_the_nearest_key():
    with pytest.raises(ConfigError) as caught:
        load(settings=["search.seeed=1", "cluster.k=none", "nonsense.key=1"])
    message = str(caught.value)
    assert "unknown key search.seeed; did you mean 'seed'?" in message
    assert "cluster.k is 'none'" in message
    assert "unknown key nonsense" in message
    assert "\n" not in message


def test_merge_height_and_domains_exclude_each_other():
    with pytest.raises(ConfigError, match=r"prune: .*one of merge_height and domains to a number"):
        load(settings=["prune.domains=5"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster: [", "is not YAML"),
        ("- a\n- b\n", "must be a mapping, not a list"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_an_invalid_configuration_file_is_named(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert "broken.yaml" in str(caught.value)


def test_an_empty_file_changes_nothing_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert load(tmp_path / "empty.yaml") == load()
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load(tmp_path / "absent.yaml")


def test_later_files_change_the_values_of_earlier_ones(tmp_path):
    (tmp_path / "one.yaml").write_text("cluster: {k: 5, seed: 7}\nprune: {thresholds: {rules: 1}}")
    (tmp_path / "two.yaml").write_text("cluster: {k: 6}\nprune: {thresholds: {fineweb: 2}}")
    cfg = load([tmp_path / "one.yaml", str(tmp_path / "two.yaml")], ["cluster.seed=8"])
    assert (cfg.cluster.k, cfg.cluster.seed) == (6, 8)
    assert cfg.prune.thresholds == {"fineweb": 2}
    assert load([]) == load()
    (tmp_path / "bad.yaml").write_text("cluster: {k: none}")
    with pytest.raises(ConfigError, match=r"configuration in .*one\.yaml, .*bad\.yaml: cluster\.k"):
        load([tmp_path / "one.yaml", tmp_path / "bad.yaml"])


def test_a_file_can_extend_others_whose_paths_are_relative_to_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.yaml").write_text("extends: [two.yaml]\ncluster: {k: 5}")
    (tmp_path / "parts" / "two.yaml").write_text("cluster: {k: 6, seed: 7}")
    (tmp_path / "top.yaml").write_text("extends: [parts/one.yaml]\nprune: {terms: 9}")
    cfg = load(tmp_path / "top.yaml")
    assert (cfg.cluster.k, cfg.cluster.seed, cfg.prune.terms) == (5, 7, 9)
    (tmp_path / "parts" / "two.yaml").write_text("extends: [../top.yaml]")
    with pytest.raises(ConfigError, match=r"two\.yaml extends .*top\.yaml, which extends it"):
        load(tmp_path / "top.yaml")
    (tmp_path / "top.yaml").write_text("extends: parts/one.yaml")
    with pytest.raises(ConfigError, match=r"extends in .*; it must be a list of YAML files"):
        load(tmp_path / "top.yaml")


@pytest.mark.parametrize("key", ["max_drop", "temperature", "max_epochs", "kl_penalty"])
@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_a_number_that_is_not_finite_is_refused_with_its_key(key, value):
    with pytest.raises(ConfigError, match=rf"search\.{key} is (inf|nan): .*finite"):
        load(settings=[f"search.{key}={value}"])


@pytest.mark.parametrize("setting", ["search.seed", "seed=1", ".seed=1", "search.seed=[1"])
def test_a_malformed_setting_is_named(setting):
    with pytest.raises(ConfigError, match="--set"):
        load(settings=[setting])


def test_a_root_that_is_a_uri_needs_a_folder_that_proxies_can_open():
    with pytest.raises(ConfigError, match=r"storage: .*storage\.files"):
        load(settings=["storage.root=s3://bucket/climb"])
    assert load(settings=["storage.root=s3://bucket/climb", "storage.files=/mnt/climb"])


@pytest.mark.parametrize("key", ["ingest.inputs", "storage.root", "storage.files", "mix.export"])
def test_an_unset_variable_of_the_shell_is_not_the_working_directory(key):
    with pytest.raises(ConfigError, match=rf"{key}.*the path is empty; is a variable"):
        load(settings=[f"{key}="] if key in ("ingest.inputs", "storage.root") else [f"{key}=''"])


PLAIN_PATHS = (
    *("storage.files", "storage.local_folder", "report.path", "export.path", "remove.out"),
    "score.training.output",
)


@pytest.mark.parametrize("key", PLAIN_PATHS)
def test_files_that_are_written_as_plain_paths_cannot_be_at_a_uri(key):
    with pytest.raises(ConfigError, match=rf"{key}.*'dbfs:/Volumes/x' is a URI, but"):
        load(settings=[f"{key}=dbfs:/Volumes/x"])


def test_the_home_folder_may_be_written_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    cfg = load(settings=["storage.root=~/climb", "report.path=~/r.html", "ingest.inputs=[~/a, b~]"])
    assert (cfg.storage.root, cfg.report.path) == ("/home/ann/climb", "/home/ann/r.html")
    assert cfg.ingest.inputs == ("/home/ann/a", "b~")


def test_the_fields_of_a_plugin_are_converted_to_their_types():
    assert build({"use": HERE, "name": "you", "times": "2"}, Greeter).greet() == "hello you" * 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "x"}, "use: module:Class"),
        ({"use": "no.such.module:X"}, r"to PYTHONPATH \(PYTHONPATH=\. climb"),
        ({"use": f"{__name__}:pytest"}, "not a frozen dataclass"),
        ({"use": HERE, "nam": "x"}, "did you mean 'name'"),
        ({"use": HERE, "name": "x", "qqqq": 1}, "its fields are"),
        ({"use": HERE}, "name"),
        ({"use": f"{__name__}:Mute", "name": "x"}, "has no greet, which a Greeter must have"),
    ],
)
def test_an_invalid_plugin_spec_is_explained(spec, message):
    with pytest.raises(ConfigError, match=message):
        build(spec, Greeter)


def test_a_recipe_depends_on_what_changes_results_and_on_nothing_else(tmp_path):
    one, same = Hello(name="a"), Hello(name="a", batch=99)
    assert recipe_of(one) == recipe_of(same)
    assert recipe_of(one) != recipe_of(Hello(name="b"))
    first, copy, other = tmp_path / "m1", tmp_path / "m2", tmp_path / "m3"
    for folder, content in ((first, b"w"), (copy, b"w"), (other, b"v")):
        folder.mkdir()
        (folder / "weights").write_bytes(content)
    recipes = [recipe_of(Hello(name="a", model=str(f))) for f in (first, copy, other)]
    assert recipes[0] == recipes[1] != recipes[2]


def test_a_missing_model_is_named_when_its_recipe_is_computed():
    with pytest.raises(PreflightError, match="nowhere"):
        recipe_of(Hello(name="a", model="/nowhere"))
    with pytest.raises(PreflightError, match="no_such_package"):
        recipe_of(Hello(name="a", model="package:no_such_package/x"))


def test_set_changes_one_threshold_and_a_file_replaces_them_all(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("prune: {thresholds: {fineweb: 1.0, c4: 2.0}}\n")
    assert load(path).prune.thresholds == {"fineweb": 1.0, "c4": 2.0}
    changed = load(path, ["prune.thresholds.c4=3"])
    assert changed.prune.thresholds == {"fineweb": 1.0, "c4": 3.0}
    assert load(path, ["prune.thresholds={}"]).prune.thresholds == {}


def test_an_unknown_key_inside_a_list_has_a_suggestion():
    target = "[{name: x, kind: text, serch: x.jsonl, report: null, limit: null}]"
    with pytest.raises(ConfigError, match=r"proxy\.targets\.0\.serch; did you mean 'search'"):
        load(settings=[f"proxy.targets={target}"])


@pytest.mark.parametrize("setting", ['search.name="o\'brien"', "search.replicates=1"])
def test_values_that_would_fail_at_the_end_of_a_search_are_errors(setting):
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        load(settings=[setting])


def test_an_offered_field_is_used_unless_the_spec_sets_it():
    from climb.embed.sentence import SentenceEmbedder

    spec = {"use": "climb.embed.sentence:SentenceEmbedder", "model": "m", "dim": 3}
    spec |= {"max_tokens": 9, "precision": "float32"}
    assert build(spec, SentenceEmbedder, batch_tokens=7).batch_tokens == 7
    assert build(spec | {"batch_tokens": 5}, SentenceEmbedder, batch_tokens=7).batch_tokens == 5


def test_a_key_that_a_file_has_twice_is_an_error_with_both_lines(tmp_path):
    (tmp_path / "c.yaml").write_text("search:\n  seed: 1\nmix: {tokens: 5}\nsearch:\n  seed: 2\n")
    with pytest.raises(ConfigError, match="key 'search' is in line 1 and in line 4"):
        load(tmp_path / "c.yaml")


def test_a_key_next_to_a_merge_key_is_not_a_repeated_key(tmp_path):
    file = tmp_path / "c.yaml"
    text = """
compare:
  methods:
    b:
      search: &second
        <<: &base {replicates: 0, candidates: 10}
        candidates: 20
search:
  <<: *second
  candidates: 30
"""
    file.write_text(text)
    cfg = load(file)
    assert cfg.compare.methods["b"].search == {"replicates": 0, "candidates": 20}
    assert (cfg.search.replicates, cfg.search.candidates) == (0, 30)
    file.write_text(text + "  candidates: 40\n")
    with pytest.raises(ConfigError, match="key 'candidates' is in line 10 and in line 11"):
        load(file)


def test_two_targets_of_one_name_are_an_error_with_both_places():
    target = "{name: t, kind: text, search: a.jsonl, report: null, limit: null}"
    with pytest.raises(ConfigError, match=r"proxy\.targets: items 0 and 1 are both named 't'"):
        load(settings=[f"proxy.targets=[{target}, {target}]"])


def test_a_wheel_that_python_reads_as_a_zip_file_is_refused_with_the_way_to_install_it(monkeypatch):
    loader = sys.modules["climb.config.load"]  # the package has a function of this name
    monkeypatch.setattr(loader, "__file__", "/jobs/climb.whl/climb/config/load.py")
    with pytest.raises(ConfigError, match=r"^climb runs from /jobs/climb\.whl, .*--py-files"):
        loader.find_conf_folder()


def test_an_export_to_a_uri_is_refused_for_every_command():
    with pytest.raises(ConfigError, match=r"export.path: 's3://bucket/x' is a URI, .* mount"):
        load(settings=["export.path=s3://bucket/x"])
