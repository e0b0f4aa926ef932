"""Preflight reports all problems in one line before Spark starts; the doctor checks the machine."""

import importlib.metadata
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from climb.cli.commands import main
from climb.cli.doctor import check_java, check_machine
from climb.cli.preflight import run_preflight
from climb.cli.start import PIPELINE
from climb.config import load
from climb.errors import PreflightError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """A JAVA_HOME whose java prints the given first line."""

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
    """A configuration whose files exist, on a machine with a supported Java."""
    fake_java('openjdk version "17.0.15" 2025-04-15')
    (tmp_path / "text.jsonl").write_text("{}\n")
    item = '{"context": "the sky is", "choices": [" blue", " green"], "label": 0}'
    (tmp_path / "items.jsonl").write_text(f"{item}\n")
    conf = tmp_path / "conf.yaml"
    conf.write_text(
        f"storage: {{root: {tmp_path}/out}}\n"
        f"ingest: {{inputs: [{tmp_path}/*.jsonl]}}\n"
        f"proxy:\n  targets:\n  - {{name: t, kind: choices, search: {tmp_path}/items.jsonl, "
        f"report: {tmp_path}/items.jsonl, limit: null}}\n"
    )
    return lambda *settings: load(conf, settings)


def preflight_error(cfg, jobs=None):
    with pytest.raises(PreflightError) as caught:
        run_preflight(cfg, jobs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_suitable_machine_with_all_files_passes(configured):
    run_preflight(configured())


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
def test_only_java_17_and_21_pass(fake_java, first_line, ok, major):
    fake_java(first_line)
    check = check_java()
    assert check.ok is ok
    assert check.found.startswith(f"Java {major} (")


def test_an_unsupported_java_is_reported_with_the_required_versions_and_the_install_command(
    configured, tmp_path
):
    program = tmp_path / "jdk" / "bin" / "java"
    program.write_text(program.read_text().replace("17.0.15", "11.0.22"))
    message = preflight_error(configured())
    assert "Java 11" in message
    assert "17 or 21" in message
    for system in ("apt-get install", "brew install", "conda install"):
        assert system in message


def test_a_missing_java_is_reported_before_a_session_starts(configured, monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no java on the PATH" in preflight_error(configured())


def test_a_java_home_without_java_is_reported(configured, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"JAVA_HOME is {tmp_path}" in preflight_error(configured())


def test_a_java_that_does_not_run_is_reported_with_its_output(fake_java):
    fake_java("the operation couldn't be completed")
    assert "couldn't be completed" in check_java().found


@pytest.mark.parametrize("name", ["PYSPARK_GATEWAY_PORT", "DATABRICKS_RUNTIME_VERSION"])
def test_java_is_not_checked_if_a_jvm_is_already_running(configured, monkeypatch, tmp_path, name):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv(name, "1")
    run_preflight(configured())


def test_an_input_that_does_not_exist_is_reported(configured):
    message = preflight_error(configured("ingest.inputs=[nowhere/*.parquet]"))
    assert "ingest.inputs" in message
    assert "nowhere/*.parquet" in message


@pytest.mark.parametrize("name", ["s3a://bucket/text/*.parquet", "delta:main.lake.letters"])
def test_an_input_that_only_spark_can_find_is_not_checked(configured, name):
    run_preflight(configured(f"ingest.inputs=['{name}']"))


def test_empty_inputs_are_an_error_for_ingest_but_not_for_later_jobs(configured):
    cfg = configured("ingest.inputs=[]")
    assert "ingest.inputs is empty" in preflight_error(cfg, ["ingest"])
    run_preflight(cfg, ["report"])


def test_a_missing_target_file_is_reported_with_target_and_part(configured):
    cfg = configured()
    Path(cfg.proxy.targets[0].search).unlink()
    message = preflight_error(cfg)
    assert "proxy.targets 't': search" in message
    assert "proxy.targets 't': report" in message


def test_a_job_is_not_stopped_by_a_file_that_only_another_job_needs(configured):
    cfg = configured()
    Path(cfg.proxy.targets[0].search).unlink()
    run_preflight(cfg, ["embed", "cluster"])
    assert "search" in preflight_error(cfg, ["search"])


def test_a_missing_model_folder_is_reported_with_its_key(configured):
    message = preflight_error(
        configured(
            "embed.embedder={use: 'climb.embed.sentence:SentenceEmbedder', model: no/such/model, "
            "dim: 8, max_tokens: 8, precision: float32, batch_tokens: 64}"
        )
    )
    assert "embed.embedder.model" in message
    assert "no/such/model" in message


def test_a_field_that_a_job_does_not_set_is_missed_before_the_job_starts(configured):
    """Job embed sets `batch_tokens` if it is configured; job score sets nothing."""
    scorer = (
        "{use: 'climb.quality.transformer:TransformerScorer', model: x, name: y, max_tokens: 8}"
    )
    message = preflight_error(configured(f"score.scorers=[{scorer}]"), ["score"])
    assert "score.scorers.0" in message
    assert "batch_tokens" in message


def test_a_model_in_a_package_that_is_not_installed_is_reported(configured):
    message = preflight_error(
        configured("embed.embedder.table=package:no_such_package/table.safetensors")
    )
    assert "embed.embedder.table" in message
    assert "'no_such_package' is not installed" in message


@pytest.fixture
def without_torch(monkeypatch):
    """The packages of a CPU cluster."""
    absent = {"torch", "transformers", "sentence_transformers", "xgboost", "fasttext"}
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in absent else find(name)
    )


def sentence_embedder(folder):
    folder.mkdir()
    return (
        f"embed.embedder={{use: 'climb.embed.sentence:SentenceEmbedder', model: {folder}, dim: 8, "
        "max_tokens: 8, precision: float32}"
    )


def test_a_missing_package_is_reported_with_the_extra_that_installs_it(
    configured, without_torch, tmp_path
):
    message = preflight_error(configured(sentence_embedder(tmp_path / "model")), ["embed"])
    assert message == (
        "embed.embedder: climb.embed.sentence:SentenceEmbedder needs the Python packages 'torch', "
        "'sentence_transformers'; run make setup, or pip install 'climb-mixture[embed]'"
    )


@pytest.mark.parametrize("job", ["base", "search", "target_base", "train"])
def test_a_job_that_trains_names_the_extra_proxy(configured, without_torch, job):
    assert "pip install 'climb-mixture[proxy]'" in preflight_error(configured(), [job])


@pytest.mark.parametrize(
    "job", ["ingest", "count", "score", "cluster", "prune", "pack", "mix", "report"]
)
def test_a_job_that_loads_no_model_needs_none_of_its_packages(
    configured, without_torch, tmp_path, job
):
    """Job cluster only hashes the embedder's recipe, and prune those of the scorers."""
    run_preflight(configured(sentence_embedder(tmp_path / "model")), [job])


def test_a_job_that_only_identifies_a_model_needs_its_files(configured, tmp_path):
    setting = sentence_embedder(tmp_path / "model")
    (tmp_path / "model").rmdir()
    assert "embed.embedder.model" in preflight_error(configured(setting), ["cluster"])


def test_the_packages_of_other_machines_are_not_checked(configured, without_torch):
    run_preflight(configured(), PIPELINE, packages=False)


def test_databricks_needs_an_absolute_name_of_the_experiment(configured):
    uri = "tracking.uri=databricks"
    message = preflight_error(configured(uri), ["report"])
    assert message == (
        "tracking.experiment is 'climb'; with tracking.uri 'databricks' it must be an absolute "
        "path of the workspace, for example /Shared/climb"
    )
    assert "tracking.experiment" in preflight_error(configured("tracking.uri=databricks://dev"))
    run_preflight(configured(uri, "tracking.experiment=/Shared/climb"), ["report"])
    run_preflight(configured(uri, "tracking.enabled=false"), ["report"])
    run_preflight(configured("tracking.uri=http://host:5000"), ["report"])


def test_a_plug_in_that_cannot_be_built_is_reported_with_its_key(configured):
    message = preflight_error(
        configured("search.predictor={use: 'climb.predictor.xgboost:NoSuchPredictor'}")
    )
    assert message.startswith("search.predictor: ")
    assert "NoSuchPredictor" in message


def test_a_tokenizer_without_the_configured_end_of_text_is_reported(configured, tmp_path):
    from climb.tokenizer import train_json

    (tmp_path / "tokenizer.json").write_text(train_json(["a few words"], 300))
    path = f"count.path={tmp_path}/tokenizer.json"
    run_preflight(configured(path))
    error = preflight_error(configured(path, "count.end_of_text=<end>"))
    assert "count.end_of_text is '<end>', but the tokenizer has no such token" in error


def test_what_an_export_needs_is_checked_before_spark_starts(configured, tmp_path):
    run_preflight(configured("export.path=out"), ["export"])
    for settings, message in (
        (["export.tokenizer=nowhere"], "export.tokenizer: model path 'nowhere' does not exist"),
        (["export.format={use: 'climb.export.formats.hf:Hf'}"], "export.format: plug-in"),
        ([f"export.path={tmp_path}/file/x"], f"{tmp_path}/file is a file; set export.path"),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(PreflightError) as caught:
            run_preflight(configured(*settings), ["export"])
        assert message in str(caught.value)


def test_invalid_items_of_a_target_are_reported_with_the_line(configured, tmp_path):
    (tmp_path / "items.jsonl").write_text('{"question": "?"}\n')
    error = preflight_error(configured())
    assert f"target 't': {tmp_path}/items.jsonl line 1: 'context' is None" in error


def test_a_missing_tokenizer_is_reported(configured):
    assert "count.path" in preflight_error(configured("count.path=no/tokenizer.json"))


def test_all_problems_are_reported_at_once(configured):
    message = preflight_error(configured("count.path=no/tokenizer.json", "ingest.inputs=[nowhere]"))
    assert message.startswith("(1) ingest.inputs: 'nowhere' matches no file or folder (looked at ")
    assert "; correct the path. (2) count.path: " in message
    assert message.endswith(".")


def test_a_root_that_is_a_file_is_an_error(configured, tmp_path):
    message = preflight_error(configured(f"storage.root={tmp_path}/text.jsonl"))
    assert "text.jsonl is a file" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_root_that_cannot_be_written_is_an_error(configured, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    assert "cannot write to" in preflight_error(configured(f"storage.root={tmp_path}/closed/out"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that rejects files")
@pytest.mark.parametrize("key", ["storage.root", "storage.files"])
def test_a_file_system_without_write_support_is_an_error_even_for_root(configured, key):
    assert f"{key}: cannot write to /proc (" in preflight_error(
        configured(f"{key}=/proc/climb/out")
    )


def test_too_little_free_disk_space_is_an_error(configured, monkeypatch):
    usage = type("Usage", (), {"free": 0.4e9, "total": 1e12})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "0.40 GB free" in preflight_error(configured())


def test_a_mount_that_reports_no_size_is_tried_instead(configured, monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 0, "total": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    run_preflight(configured())
    [disk] = [check for check in check_machine() if check.name == "disk"]
    assert disk.ok
    assert "does not report its free space" in disk.found
    assert not list(tmp_path.glob(".climb-*"))

    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, b"x" * len(data)))
    message = preflight_error(configured())
    assert "cannot write to" in message
    assert "a file has other bytes than were written" in message


def test_preflight_creates_no_folder(configured, tmp_path):
    run_preflight(configured())
    assert not (tmp_path / "out").exists()


def test_all_checks_of_the_doctor_pass_on_this_machine():
    checks = {check.name: check for check in check_machine()}
    assert checks["python"].found.startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    for name in ("java", "pyspark", "delta", "torch", "xgboost", "mlflow", "climb"):
        assert checks[name].ok, checks[name]
    assert {"memory", "cores", "disk", "gpus", "spark packages"} <= checks.keys()


def test_the_doctor_says_how_to_install_a_supported_java(fake_java):
    fake_java('openjdk version "11.0.22" 2024-01-16')
    check = next(check for check in check_machine() if check.name == "java")
    assert not check.ok
    assert "openjdk-17-jre-headless" in check.fix


def test_the_doctor_ends_with_exit_code_1_if_a_check_fails(fake_java, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["climb", "doctor"])
    fake_java('openjdk version "11.0.22" 2024-01-16')
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "FAIL java" in capsys.readouterr().out


def test_the_java_check_of_make_setup_needs_no_installed_package(fake_java):
    fake_java('openjdk version "11.0.22" 2024-01-16')
    done = subprocess.run(
        [sys.executable, "-S", "-m", "climb.cli.doctor"],  # -S: no installed package is found
        env={**os.environ, "PYTHONPATH": str(ROOT / "lib")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Java 11" in done.stdout
    assert "apt-get install" in done.stdout


def test_a_root_in_an_object_store_is_not_checked(configured, tmp_path):
    run_preflight(
        configured("storage.root='s3a://bucket/climb'", f"storage.files={tmp_path}/files")
    )


def test_a_missing_spark_package_is_reported_with_the_install_command(configured, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "delta" else find(n))
    message = preflight_error(configured())
    assert "delta-spark is missing" in message
    assert "climb-mixture[local]" in message


def test_the_doctor_reports_missing_packages_and_wrong_versions(monkeypatch):
    version = importlib.metadata.version

    def installed(name):
        if name in {"scipy", "xgboost", "xgboost-cpu"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.5.1" if name == "pyspark" else version(name)

    monkeypatch.setattr("importlib.metadata.version", installed)
    checks = {check.name: check for check in check_machine()}
    assert checks["pyspark"].found == "3.5.1; climb needs 4.0.x"
    assert checks["xgboost"].found == "not installed; only XGBoostPredictor needs it"
    assert checks["xgboost"].ok
    assert checks["climb"].found == "missing packages: scipy"
    assert {checks[name].fix for name in ("pyspark", "climb")} == {"make setup"}


def test_the_doctor_counts_gpus_and_searches_the_home_folder_for_the_jar(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nfor i in 0 1; do echo "GPU $i: NVIDIA H200 (UUID: x)"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    checks = {check.name: check for check in check_machine()}
    assert checks["gpus"].found == "2 x NVIDIA H200"
    assert "the first session downloads it" in checks["spark packages"].found


def test_inputs_that_ingest_can_find_pass(configured, tmp_path, monkeypatch):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.jsonl").write_text("{}")
    (tmp_path / "[odd]").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (f"{tmp_path}/**/*.jsonl", f"{tmp_path}/[odd]", "~/a"):
        run_preflight(configured(f"ingest.inputs=['{path}']"))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "proxy.model={use: 'climb.quality.rules:RuleScorer'}",
            "proxy.model: plug-in 'climb.quality.rules:RuleScorer' has no train, which a Proxy",
        ),
        (
            "search.searcher={use: 'climb.search.searchers.ucb:UCBSearcherr'}",
            "search.searcher: plug-in 'climb.search.searchers.ucb:UCBSearcherr' cannot be imported",
        ),
        ("search.objective='rubbish(('", "search.objective 'rubbish(('"),
        ("search.objective=u.bpb:min", "search.objective 'u.bpb:min': there is no metric 'u.bpb'"),
        ("search.objective=mean(*.f1):max", "no metric matches '*.f1' (metrics: t.accuracy"),
        (
            "prune.thresholds.rulez=1",
            "prune.thresholds.rulez: no scorer computes this score; the scores are c4, fineweb",
        ),
        (
            "count.path=package:no_such_package/tokenizer.json",
            "count.path: model path 'package:no_such",
        ),
        ("prune.names=/nope.yaml", "prune.names: '/nope.yaml' does not exist"),
        (f"count.path=/{'a' * 300}.json", f"model path '/{'a' * 300}.json' does not exist"),
        (
            "search.baselines=[{use: 'climb.search.baselines:NaturalMixture', name: recommended}]",
            "search.baselines: the name 'recommended' is reserved; choose another",
        ),
        (
            "proxy.targets=[{name: t, kind: text, search: 's3://b/i.txt', report: null, limit: 1}]",
            "proxy.targets 't': search: 's3://b/i.txt' is a URI, but workers open it as a file",
        ),
    ],
)
def test_errors_that_would_stop_a_later_job_are_reported_before_the_run(
    configured, setting, expected
):
    assert expected in preflight_error(configured(setting))


def test_a_search_without_targets_is_an_error_before_any_job_runs(configured):
    cfg = configured("proxy.targets=[]")
    assert "proxy.targets is empty" in preflight_error(cfg, ["search"])
    run_preflight(cfg, ["embed"])


def test_a_plug_in_whose_package_is_missing_is_reported(configured, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "xgboost" else find(n))
    message = preflight_error(
        configured("search.predictor={use: 'climb.predictor.xgboost:XGBoostPredictor'}")
    )
    assert "search.predictor" in message
    assert "needs the Python package 'xgboost'" in message
