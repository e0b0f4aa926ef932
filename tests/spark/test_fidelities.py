"""Fidelities of a search over tables: what is trained, what is kept, and what they change."""

import dataclasses
import errno
import shutil

import numpy as np
import pytest
from planted_search import BEST, NATURAL, open_store, settings

from climb import tables
from climb.errors import ComponentError, TrialError
from climb.fidelity import FidelityInputs
from climb.search import Trials, propose
from climb.spark.training import fidelities as module
from climb.spark.training.fidelities import COMPONENT, add_fidelities, measure_part
from climb.spark.training.study import open_study

DOMAINS = tuple(sorted(NATURAL))


def configure(root, proxy=None, **fields):
    """The settings of a small search with one fidelity, which has components."""
    cfg = settings(root, **(proxy or {}))
    spec = {"use": "climb.testing.fidelities:PlantedFidelity", "best": BEST}
    spec |= {"component_tokens": 1_000, **fields}
    search = cfg.search.model_copy(update={"fidelities": (spec,)})
    return cfg.model_copy(update={"search": search})


def read_components(store):
    return [row for row in store.read_rows(tables.TRIALS) if row["method"] == COMPONENT]


@pytest.fixture(scope="module")
def prepared(spark, tmp_path_factory):
    """A store, its configuration, and the study with its fidelity."""
    root = tmp_path_factory.mktemp("fidelities")
    cfg = configure(root)
    store = open_store(spark, root, cfg)
    return store, cfg, add_fidelities(open_study(store, cfg))


def test_a_component_of_each_domain_is_a_row_with_its_tokens(prepared):
    store, _, study = prepared
    rows = read_components(store)
    assert sorted(tuple(row["weights"].items()) for row in rows) == [((d, 1.0),) for d in DOMAINS]
    assert {row["n_tokens"] for row in rows} == {1_000}
    assert {row["status"] for row in rows} == {"finished"}
    assert {row["corpus_digest"] for row in rows} == {study.setup.corpus_digest}


def test_estimates_between_the_measured_mixtures_follow_the_planted_loss(prepared):
    _, _, study = prepared
    weights_MK = study.problem.sample(np.random.default_rng(1), 50)
    best_K = np.array([BEST[name] for name in DOMAINS])
    planted_M = 1.5 + np.square(weights_MK - best_K).sum(axis=1)
    [features] = study.problem.fidelities.list_features(("quiz.bpb",), DOMAINS)
    errors_M = features(weights_MK)[:, 0] - planted_M
    assert errors_M.std() < 0.2 * planted_M.std()


def test_the_first_round_proposes_better_mixtures_with_a_fidelity(prepared):
    _, _, study = prepared
    best_K = np.array([BEST[name] for name in DOMAINS])
    nothing = Trials.from_rows([], DOMAINS, ())
    plain = dataclasses.replace(study.problem, fidelities=None)
    losses = [
        np.square(propose(nothing, 0, problem) - best_K).sum(axis=1).mean()
        for problem in (study.problem, plain)
    ]
    assert losses[0] < 0.8 * losses[1]


def test_what_is_complete_is_neither_trained_nor_measured_again(prepared, monkeypatch):
    store, cfg, study = prepared
    version = store.history.read_version(tables.TRIALS)
    monkeypatch.setattr(module, "train_trials", None)
    monkeypatch.setattr(module, "measure_part", None)
    again = add_fidelities(open_study(store, cfg))
    weights_MK = study.problem.sample(np.random.default_rng(1), 5)
    ranks = [s.problem.fidelities.rank(weights_MK, DOMAINS) for s in (study, again)]
    np.testing.assert_array_equal(*ranks)
    assert store.history.read_version(tables.TRIALS) == version


def test_only_a_component_that_is_missing_is_trained_again(prepared):
    store, cfg, _ = prepared
    names = [row["trial_id"] for row in read_components(store)]
    folder = store.locate_file("models") / "components"
    lost, *kept = sorted(names)
    stamps = {name: (folder / name / "complete.json").stat().st_mtime_ns for name in kept}
    shutil.rmtree(folder / lost)
    add_fidelities(open_study(store, cfg))
    assert (folder / lost / "complete.json").is_file()
    found = {name: (folder / name / "complete.json").stat().st_mtime_ns for name in kept}
    assert found == stamps
    assert sorted(row["trial_id"] for row in read_components(store)) == sorted(names)


def test_other_data_or_another_number_of_tokens_gets_components_of_its_own(prepared):
    _, _, study = prepared
    other = dataclasses.replace(study.setup, corpus_digest="other")
    longer = dataclasses.replace(study.setup, n_tokens=2 * study.setup.n_tokens)
    names = [module.build_component(setup, "law")[0] for setup in (study.setup, other, longer)]
    assert len(set(names)) == 3


def test_a_component_that_fails_stops_the_search_with_its_domain(spark, tmp_path):
    cfg = configure(tmp_path, {"nan_when_above": {"law": 0.99}})
    store = open_store(spark, tmp_path, cfg)
    with pytest.raises(TrialError, match=r"the component of law was not trained \(failed\): the"):
        add_fidelities(open_study(store, cfg))


@dataclasses.dataclass(frozen=True)
class Broken:
    """A fidelity that raises an error when it is loaded."""

    error: Exception

    def load(self, inputs, device):
        raise self.error


def measure_broken(prepared, error):
    _, _, study = prepared
    run = study.setup.build_run(NATURAL, 0)
    inputs = FidelityInputs(domains=DOMAINS, run=run, base_tokens=1, components={})
    return measure_part(Broken(error), inputs, np.ones((1, 4)) / 4, False)


def test_an_error_of_a_fidelity_is_returned_and_a_lost_mount_is_raised_to_spark(prepared):
    mistake = ComponentError("a shard is missing")
    assert measure_broken(prepared, mistake) is mistake
    bug = measure_broken(prepared, ZeroDivisionError("a bug"))
    assert isinstance(bug, RuntimeError)
    assert "Traceback" in str(bug)
    with pytest.raises(OSError, match="Input/output error"):
        measure_broken(prepared, OSError(errno.EIO, "Input/output error"))
