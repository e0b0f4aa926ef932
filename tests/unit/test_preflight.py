"""What a machine lacks is said before Spark starts, in one line that says what to do."""

import importlib.metadata
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from climb.config import load
from climb.doctor import doctor, java
from climb.errors import PreflightError
from climb.preflight import preflight

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """A JAVA_HOME whose java prints what a real one of that version prints."""

    def make(first_line):
        program = tmp_path / "jdk" / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{first_line}\nEND\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    return make


@pytest.fixture
def configured(tmp_path, fake_java):
    """A configuration of files that exist, on a machine with a Java that is right."""
    fake_java('openjdk version "17.0.15" 2025-04-15')
    for name in ("text.jsonl", "items.jsonl"):
        (tmp_path / name).write_text("{}\n")
    conf = tmp_path / "conf.yaml"
    conf.write_text(
        f"storage: {{root: {tmp_path}/out}}\n"
        f"ingest: {{inputs: [{tmp_path}/*.jsonl]}}\n"
        f"proxy:\n  targets:\n  - {{name: t, kind: choices, search: {tmp_path}/items.jsonl, "
        f"report: {tmp_path}/items.jsonl, limit: null}}\n"
    )
    return lambda *settings: load(conf, settings)


def complaint(cfg, jobs=None):
    with pytest.raises(PreflightError) as caught:
        preflight(cfg, jobs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_machine_and_files_that_are_right_pass(configured):
    preflight(configured())


@pytest.mark.parametrize(
    ("first_line", "ok", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True, 17),
        ('java version "21" 2023-09-19 LTS', True, 21),
        ('openjdk version "1.8.0_392"', False, 8),
        ('openjdk version "11.0.22" 2024-01-16', False, 11),
        ('openjdk version "25" 2025-09-16', False, 25),
    ],
)
def test_java_17_and_21_are_right_and_others_are_not(fake_java, first_line, ok, major):
    fake_java(first_line)
    check = java()
    assert check.ok is ok
    assert check.found.startswith(f"Java {major} (")


def test_a_wrong_java_says_what_was_found_what_is_needed_and_how_to_get_it(configured, tmp_path):
    program = tmp_path / "jdk" / "bin" / "java"
    program.write_text(program.read_text().replace("17.0.15", "11.0.22"))
    said = complaint(configured())
    assert "Java 11" in said
    assert "17 or 21" in said
    for system in ("apt-get install", "brew install", "conda install"):
        assert system in said


def test_a_java_that_is_missing_is_named_before_any_session(configured, monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no java on the path" in complaint(configured())


def test_a_java_home_without_java_in_it_is_named(configured, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"JAVA_HOME is {tmp_path}" in complaint(configured())


def test_a_java_that_does_not_run_is_shown_with_what_it_said(fake_java):
    fake_java("the operation couldn't be completed")
    assert "couldn't be completed" in java().found


@pytest.mark.parametrize("name", ["PYSPARK_GATEWAY_PORT", "DATABRICKS_RUNTIME_VERSION"])
def test_where_a_jvm_runs_already_java_is_not_looked_for(configured, monkeypatch, tmp_path, name):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv(name, "1")
    preflight(configured())


def test_an_input_that_does_not_exist_is_named(configured):
    said = complaint(configured("ingest.inputs=[nowhere/*.parquet]"))
    assert "ingest.inputs" in said
    assert "nowhere/*.parquet" in said


def test_an_input_in_an_object_store_is_left_to_spark(configured):
    preflight(configured("ingest.inputs=['s3a://bucket/text/*.parquet']"))


def test_ingest_without_inputs_is_a_mistake_and_a_later_job_without_them_is_none(configured):
    cfg = configured("ingest.inputs=[]")
    assert "ingest.inputs is empty" in complaint(cfg, ["ingest"])
    preflight(cfg, ["report"])


def test_a_missing_target_file_is_named_with_its_task_and_part(configured):
    cfg = configured()
    Path(cfg.proxy.targets[0].search).unlink()
    said = complaint(cfg)
    assert "proxy.targets 't': search" in said
    assert "proxy.targets 't': report" in said


def test_a_job_is_not_held_up_by_what_only_another_job_needs(configured):
    cfg = configured()
    Path(cfg.proxy.targets[0].search).unlink()
    preflight(cfg, ["embed", "cluster"])
    assert "search" in complaint(cfg, ["search"])


def test_a_missing_model_folder_is_named_with_its_key(configured):
    said = complaint(
        configured(
            "embed.embedder={use: 'climb.embed.sentence:SentenceEmbedder', model: no/such/model, "
            "dim: 8, max_tokens: 8, precision: float32, batch_tokens: 64}"
        )
    )
    assert "embed.embedder.model" in said
    assert "no/such/model" in said


def test_a_model_in_a_package_that_is_not_installed_is_named(configured):
    said = complaint(configured("embed.embedder.table=package:no_such_package/table.safetensors"))
    assert "embed.embedder.table" in said
    assert "'no_such_package' is not installed" in said


def test_a_plug_in_that_cannot_be_built_is_named_with_its_key(configured):
    said = complaint(configured("search.predictor={use: 'climb.predictor.xgb:NoSuchPredictor'}"))
    assert said.startswith("search.predictor: ")
    assert "NoSuchPredictor" in said


def test_a_missing_tokenizer_is_named(configured):
    assert "count.path" in complaint(configured("count.path=no/tokenizer.json"))


def test_everything_that_is_missing_is_said_at_once(configured):
    said = complaint(configured("count.path=no/tokenizer.json", "ingest.inputs=[nowhere]"))
    assert "count.path" in said
    assert "ingest.inputs" in said


def test_a_root_that_is_a_file_is_refused(configured, tmp_path):
    said = complaint(configured(f"storage.root={tmp_path}/text.jsonl"))
    assert "text.jsonl is a file" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_cannot_be_written_is_refused(configured, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    assert "cannot be written" in complaint(configured(f"storage.root={tmp_path}/closed/out"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
@pytest.mark.parametrize("key", ["storage.root", "storage.files"])
def test_a_file_system_that_takes_no_files_is_refused_even_for_root(configured, key):
    assert f"{key}: /proc cannot be written" in complaint(configured(f"{key}=/proc/climb/out"))


def test_a_disk_with_too_little_room_is_refused(configured, monkeypatch):
    usage = type("Usage", (), {"free": 0.4e9})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "0.40 GB free" in complaint(configured())


def test_preflight_makes_no_folder(configured, tmp_path):
    preflight(configured())
    assert not (tmp_path / "out").exists()


def test_the_doctor_finds_this_machine_fit_and_says_what_it_found():
    checks = {check.name: check for check in doctor()}
    assert checks["python"].found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    for name in ("java", "pyspark", "delta", "torch", "xgboost", "mlflow", "climb"):
        assert checks[name].ok, checks[name]
    assert {"memory", "cores", "disk", "gpus", "spark packages"} <= checks.keys()


def test_the_doctor_says_what_mends_a_missing_java(fake_java):
    fake_java('openjdk version "11.0.22" 2024-01-16')
    check = next(check for check in doctor() if check.name == "java")
    assert not check.ok
    assert "openjdk-17-jre-headless" in check.mend


def test_the_set_up_can_check_java_with_a_bare_python(fake_java):
    fake_java('openjdk version "11.0.22" 2024-01-16')
    done = subprocess.run(
        [sys.executable, "-S", "-m", "climb.doctor"],  # -S: no installed package is found
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Java 11" in done.stdout
    assert "apt-get install" in done.stdout


def test_a_root_in_an_object_store_is_left_to_spark(configured, tmp_path):
    preflight(configured("storage.root='s3a://bucket/climb'", f"storage.files={tmp_path}/files"))


def test_a_missing_pyspark_is_named_with_the_command_that_installs_it(configured, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "delta" else find(n))
    said = complaint(configured())
    assert "delta-spark is missing" in said
    assert "climb-mixture[spark]" in said


def test_the_doctor_names_packages_that_are_missing_and_those_of_another_line(monkeypatch):
    version = importlib.metadata.version

    def installed(name):
        if name in {"scipy", "xgboost", "xgboost-cpu"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.5.1" if name == "pyspark" else version(name)

    monkeypatch.setattr("importlib.metadata.version", installed)
    checks = {check.name: check for check in doctor()}
    assert checks["pyspark"].found == "3.5.1; wanted 4.0.x"
    assert checks["xgboost"].found == "not installed"
    assert checks["climb"].found == "missing: scipy"
    assert {checks[name].mend for name in ("pyspark", "xgboost", "climb")} == {"make setup"}


def test_the_doctor_counts_gpus_and_looks_for_the_jar_in_the_home_folder(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nfor i in 0 1; do echo "GPU $i: NVIDIA H200 (UUID: x)"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    checks = {check.name: check for check in doctor()}
    assert checks["gpus"].found == "2 x NVIDIA H200"
    assert "the first session fetches it" in checks["spark packages"].found


def test_inputs_that_ingest_would_find_pass(configured, tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.jsonl").write_text("{}")
    (tmp_path / "[odd]").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (f"{tmp_path}/**/*.jsonl", f"{tmp_path}/[odd]", "~/a"):
        preflight(configured(f"ingest.inputs=['{path}']"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "proxy.model={use: 'climb.quality.rules:RuleScorer'}",
            "proxy.model: plug-in 'climb.quality.rules:RuleScorer' is not a Proxy",
        ),
        (
            "search.searcher={use: 'climb.search.peers:RegMixSearcherr'}",
            "search.searcher: plug-in 'climb.search.peers:RegMixSearcherr' cannot be imported",
        ),
        ("search.objective='rubbish(('", "search.objective 'rubbish(('"),
        ("prune.thresholds.rulez=1", "prune.thresholds names 'rulez'; the scores are c4, fineweb"),
        ("count.path=package:no_such_package/tokenizer.json", "count.path: package:no_such"),
    ],
)
def test_what_would_fail_after_hours_is_said_at_the_start(configured, setting, message):
    assert message in complaint(configured(setting))


def test_a_search_without_targets_is_refused_before_anything_runs(configured):
    cfg = configured("proxy.targets=[]")
    assert "proxy.targets is empty" in complaint(cfg, ["search"])
    preflight(cfg, ["embed"])


def test_a_plug_in_whose_package_is_missing_is_named(configured, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "xgboost" else find(n))
    said = complaint(configured("search.predictor={use: 'climb.predictor.xgb:XGBoostPredictor'}"))
    assert "search.predictor" in said
    assert "needs the Python package 'xgboost'" in said
