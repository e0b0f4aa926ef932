"""The id of a run: equal for equal mixtures, seeds and setups."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from training_setup import make_setup

from climb import tables
from climb.config import load
from climb.errors import TableError
from climb.spark.training import setup as module
from climb.spark.training.pack import plan_shards
from climb.spark.training.pack_settings import list_pack_settings
from climb.spark.training.setup import (
    build_target_setup,
    build_trial_setup,
    ensure_base_checkpoint,
)
from climb.testing.proxies import PlantedProxy
from climb.tokenizer import TokenizerFile


@pytest.fixture
def setup(tmp_path):
    return make_setup(tmp_path, PlantedProxy(), {"law": 0.6, "web": 0.4})


def test_the_same_mixture_to_nine_decimals_has_one_id_whatever_the_order_of_domains(setup):
    name = setup.name_run({"law": 0.25, "web": 0.75}, 0)
    assert setup.name_run({"web": 0.75 - 1e-11, "law": 0.25 + 1e-11}, 0) == name
    assert setup.name_run({"law": 0.25 + 1e-8, "web": 0.75 - 1e-8}, 0) != name


@pytest.mark.parametrize("zero", [{}, {"web": 0.0}, {"web": -1e-15}])
def test_a_domain_of_weight_0_does_not_change_the_id(setup, zero):
    assert setup.name_run({"law": 1.0} | zero, 0) == setup.name_run({"law": 1.0, "web": 1e-15}, 0)


def test_another_seed_corpus_or_length_is_another_run(setup):
    mixture = {"law": 0.25, "web": 0.75}
    changed = {"corpus_digest": "other", "n_tokens": 2_000}
    others = [dataclasses.replace(setup, **{key: value}) for key, value in changed.items()]
    names = [setup.name_run(mixture, 0), setup.name_run(mixture, 1)]
    names += [other.name_run(mixture, 0) for other in others]
    assert len(set(names)) == 4


TOKENS = ("search.target_tokens=40_000_000", "train.tokens=1_000_000", "proxy.base_tokens=6_000")


@pytest.fixture
def open_setup(tmp_path, monkeypatch):
    """Build a setup whose shards were packed for TOKENS, or have other recorded inputs."""
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"context": "q", "choices": ["a", "b"], "label": 0}) + "\n")
    part = f"search: {items}, report: null"
    target = f"proxy.targets=[{{name: t, kind: choices, limit: null, {part}}}]"
    monkeypatch.setattr(module, "_write_tokenizer", lambda *_: TokenizerFile(""))
    monkeypatch.setattr(module, "check_shared", lambda *_: None)
    domains = [{"domain": d, "n_tokens": 10_000_000, "token_share": 0.5} for d in "ab"]
    packed = load(settings=[target, *TOKENS])
    shards = [
        {"kind": s.kind, "domain": s.domain, "path": "", "n_tokens": s.n_tokens, "sha256": ""}
        for s in plan_shards(domains, packed)
    ]
    rows = {tables.DOMAINS: domains, tables.SHARDS: shards}
    inputs = {"read": {}, "settings": json.loads(json.dumps(list_pack_settings(packed)))}

    def build(build_setup, *settings, inputs=inputs):
        store = SimpleNamespace(
            session=None,
            cfg=SimpleNamespace(files_folder=tmp_path),
            read_rows=lambda table: rows[table],
            locate_file=lambda name: tmp_path / name,
            history=SimpleNamespace(read_inputs=lambda table: inputs),
        )
        setup = build_setup(store, load(settings=[target, *TOKENS, *settings]))
        monkeypatch.setattr(module, "is_complete", lambda _: True)
        assert ensure_base_checkpoint(store, setup, None) is False

    return build


@pytest.mark.parametrize(
    ("build_setup", "setting", "before"),
    [
        (build_trial_setup, "search.target_tokens=400000000", "search.target_tokens=40000000"),
        (build_trial_setup, "proxy.trial_tokens=2000000", "proxy.trial_tokens=200000"),
        (build_trial_setup, "proxy.match_repetition=False", "proxy.match_repetition=True"),
        (build_trial_setup, "proxy.base_tokens=7000", "proxy.base_tokens=6000"),
        (build_target_setup, "train.tokens=2000000", "train.tokens=1000000"),
        (build_target_setup, "search.target_tokens=400000000", "search.target_tokens=40000000"),
    ],
)
def test_nothing_is_trained_on_shards_that_were_packed_for_other_tokens(
    open_setup, build_setup, setting, before
):
    expected = f"packed for {before}, but the configuration has {setting}; run `climb pack` first"
    with pytest.raises(TableError, match=expected):
        open_setup(build_setup, setting)


@pytest.mark.parametrize(
    ("build_setup", "settings"),
    [
        (build_trial_setup, ()),
        (build_target_setup, ()),
        (build_trial_setup, ("train.tokens=2_000_000", "train.base_tokens=8_000_000")),
        (build_target_setup, ("proxy.trial_tokens=7", "proxy.match_repetition=false")),
        (build_target_setup, ("search.target_tokens=80_000_000", "train.tokens=2_000_000")),
        (build_trial_setup, ("search.trials_per_round=[9, 3]", "count.end_of_text=x")),
    ],
)
def test_settings_that_change_no_size_of_the_shards_of_a_run_may_differ(
    open_setup, build_setup, settings
):
    open_setup(build_setup, *settings)


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        {"read": {}, "settings": {}},
        {"read": {}, "settings": {"base_tokens": [1, 2], "run_tokens": [1]}},
    ],
)
def test_shards_without_the_settings_that_this_version_records_are_accepted(open_setup, inputs):
    open_setup(build_trial_setup, "proxy.trial_tokens=7", inputs=inputs)
