"""The contract checks of plug-ins state the broken rule, and never raise another exception."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from climb.search.problem import STAGE_PROPOSE
from climb.testing.contracts import check_proxy, check_searcher
from climb.testing.contracts_fidelity import check_fidelity
from climb.testing.contracts_text import check_embedder, check_scorer
from climb.testing.embedders import HashedWords
from climb.testing.proxies import PlantedProxy


@dataclass(frozen=True)
class FaultyProxy:
    fault: str

    def train(self, run, device):
        metrics = PlantedProxy(noise=0.1).train(run, device)
        if self.fault == "not saved":
            (Path(run.save) / "planted.json").unlink()
            Path(run.save).rmdir()
        if self.fault == "weights":
            run.weights.clear()
        if self.fault == "raises":
            raise RuntimeError("two\nlines")
        return {"none": None, "list": list(metrics.items())}.get(self.fault, metrics)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("not saved", "the trained model must be in the folder `save`"),
        ("weights", "train must not change the weights of the run"),
        ("raises", "train must not fail; found RuntimeError: two lines"),
        ("none", "train must return a dict of metrics; found NoneType"),
        ("list", "train must return a dict of metrics; found list"),
    ],
)
def test_the_check_of_a_proxy_states_the_broken_rule(fault, rule, tmp_path):
    with pytest.raises(AssertionError, match=rule):
        check_proxy(FaultyProxy(fault), tmp_path)


@dataclass(frozen=True)
class FaultySearcher:
    fault: str

    def propose(self, state, round_, n):
        drawn_NK = state.problem.sample(state.problem.random(STAGE_PROPOSE, round_), n)
        if self.fault == "seeds":
            state.trials.seeds_T[:] = 7
        if self.fault == "raises":
            raise RuntimeError("two\nlines")
        return {"none": None, "texts": drawn_NK.astype(str)}.get(self.fault, drawn_NK)

    def recommend(self, state):
        return dict.fromkeys(state.trials.domains, 0.2)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("seeds", "the proposal for round 1 must not change the trials"),
        ("raises", "propose must not fail; found RuntimeError: two lines"),
        ("none", "the proposal for round 0 must be an array of numbers; found object"),
        ("texts", "the proposal for round 0 must be an array of numbers; found <U"),
        ("recommends a dict", "the recommendation must be an array of numbers; found object"),
    ],
)
def test_the_check_of_a_searcher_states_the_broken_rule(fault, rule):
    with pytest.raises(AssertionError, match=rule):
        check_searcher(FaultySearcher(fault))


@dataclass(frozen=True)
class FaultyEmbedder:
    fault: str
    dim: int = 8

    def load(self, device):
        return self._embed

    def _embed(self, texts):
        vectors_ND = HashedWords(dim=self.dim).load("cpu")(texts)
        if self.fault == "fails on nothing":
            return np.stack([*vectors_ND])
        if self.fault == "empties":
            texts.clear()
        return {"list": vectors_ND.tolist(), "none": None}.get(self.fault, vectors_ND)


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("fails on nothing", "a batch of 0 texts must not fail; found ValueError"),
        ("empties", "must not change the list of texts"),
        ("list", "must return a NumPy array"),
        ("none", "must return a NumPy array"),
    ],
)
def test_the_check_of_an_embedder_states_the_broken_rule(fault, rule):
    with pytest.raises(AssertionError, match=f"^FaultyEmbedder: {rule}"):
        check_embedder(FaultyEmbedder(fault))


@dataclass(frozen=True)
class FaultyScorer:
    fault: str
    names: Any = ("a",)

    def load(self, device):
        return self._score

    def _score(self, texts):
        score_N = np.array([len(text) for text in texts], np.float32)
        if self.fault == "empties":
            texts.clear()
        faults = {"none": None, "array": score_N, "list": {"a": score_N.tolist()}}
        return faults.get(self.fault, {"a": score_N})


@pytest.mark.parametrize(
    ("fault", "names", "rule"),
    [
        ("empties", ("a",), "must not change the list of texts"),
        ("none", ("a",), "returns NoneType, not a dict of arrays"),
        ("array", ("a",), "returns ndarray, not a dict of arrays"),
        ("list", ("a",), "score 'a' is no NumPy array"),
        ("", ["a"], r"must have a tuple of unique names; found \['a'\]"),
        ("", "a", "must have a tuple of unique names; found 'a'"),
    ],
)
def test_the_check_of_a_scorer_states_the_broken_rule(fault, names, rule):
    with pytest.raises(AssertionError, match=f"^FaultyScorer: {rule}"):
        check_scorer(FaultyScorer(fault, names))


@dataclass(frozen=True)
class FaultyFidelity:
    fault: str
    mixtures: Any = 4
    component_tokens: Any = 0

    def list_metrics(self, run):
        names = ("letters.bpb", "letters.bpb" if self.fault == "twice" else "numbers.bpb")
        return iter(names) if self.fault == "generator" else names

    def load(self, inputs, device):
        if self.fault == "none":
            return None
        return lambda weights_MK: weights_MK


@pytest.mark.parametrize(
    ("fault", "fields", "rule"),
    [
        ("none", {}, "the function that it returns, must not fail; found TypeError"),
        ("generator", {}, "list_metrics must return a tuple of different names; found <"),
        ("twice", {}, "list_metrics must return a tuple of different names"),
        ("", {"mixtures": 4.0}, "mixtures must be at least 4, and an integer; found 4.0"),
        ("", {"component_tokens": -5}, "component_tokens must be at least 0, and an integer"),
    ],
)
def test_the_check_of_a_fidelity_states_the_broken_rule(fault, fields, rule, tmp_path):
    with pytest.raises(AssertionError, match=rule):
        check_fidelity(FaultyFidelity(fault, **fields), tmp_path)


def test_a_fidelity_without_fault_keeps_the_contract(tmp_path):
    check_fidelity(FaultyFidelity(""), tmp_path)
