"""The id of a run: equal for equal mixtures, seeds and setups."""

import dataclasses

import pytest
from training_setup import make_setup

from climb.testing.proxies import PlantedProxy


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
