"""The syntax of objectives, and scores: higher is always better."""

import numpy as np
import pytest

from climb.errors import ConfigError
from climb.objective import Objective

NAMES = ("arc_easy.bpb", "arc_easy.accuracy", "piqa.bpb", "pile_cc")


def test_a_minimized_mean_gives_its_metrics_negative_weights():
    objective = Objective.parse("mean(*.bpb):min", NAMES)
    np.testing.assert_allclose(objective.weights_Q, [-0.5, 0.0, -0.5, 0.0])
    assert objective.weighted_columns == (0, 2)
    assert objective.metric_names == NAMES


def test_terms_have_weights_and_directions():
    objective = Objective.parse("0.7*arc_easy.bpb:min + .3 * arc_easy.accuracy : max", NAMES)
    np.testing.assert_allclose(objective.weights_Q, [-0.7, 0.3, 0.0, 0.0])


def test_a_mean_accepts_several_patterns_and_counts_a_metric_once():
    objective = Objective.parse("2*mean(arc*.bpb, *.bpb):max", NAMES)
    np.testing.assert_allclose(objective.weights_Q, [1.0, 0.0, 1.0, 0.0])


def test_terms_of_one_metric_add_up():
    objective = Objective.parse("pile_cc:min + 0.5*pile_cc:min", NAMES)
    np.testing.assert_allclose(objective.weights_Q, [0, 0, 0, -1.5])


def test_a_lower_loss_has_a_higher_score_and_metrics_of_weight_zero_may_be_nan():
    objective = Objective.parse("pile_cc:min", NAMES)
    scores = objective.score([[np.nan, 1, 1, 2.0], [np.nan, 1, 1, 1.5]])
    np.testing.assert_allclose(scores, [-2.0, -1.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pile_c:min", r"no metric 'pile_c'; did you mean 'pile_cc'\? \(metrics: arc_easy.bpb"),
        ("zzzzzz:min", r"no metric 'zzzzzz' \(metrics"),
        ("pile_cc", "not of the form"),
        ("pile_cc:down", "not of the form"),
        ("", "not of the form"),
        ("mean():min", "not of the form"),
        ("pile_cc,arc_easy.bpb:min", "not of the form"),
        ('x"pile_cc":min', "not of the form"),
        ('mean(x"pile_cc", *.bpb):min', "not of the form"),
        ("*.bpb:min", r"is a pattern; write mean\(\*\.bpb\)"),
        ("mean(*.f1):max", r"no metric matches '\*\.f1'"),
        ("-1*pile_cc:min", r"'-1' is not a weight; .*for a negative weight, write max"),
        ("1e-3*pile_cc:min", "'1e-3' is not a weight"),
        ("mean(pile[cc]):min", r'no metric matches .*quote a name with "\[": "pile\[cc\]"'),
        ("pile_cc:min + pile_cc:max", "has no weight on any metric: its terms cancel out"),
    ],
)
def test_an_invalid_objective_is_explained_with_the_existing_metrics(text, message):
    with pytest.raises(ConfigError, match=message):
        Objective.parse(text, NAMES)


@pytest.mark.parametrize("name", ["pile cc", "c++.bpb", "2*x"])
def test_a_metric_with_special_characters_can_be_an_objective(name):
    single = Objective.from_metric(name, ("other", name))
    np.testing.assert_array_equal(single.score([[5.0, 2.0]]), [2.0])


def test_the_syntax_of_an_objective_can_be_checked_without_metrics():
    Objective.check("0.7*anything:max + mean(*.bpb):min")
    with pytest.raises(ConfigError, match="not of the form"):
        Objective.check("0.7*anything:max + rubbish((")


def test_a_quoted_name_may_have_every_character_and_is_no_pattern():
    names = ["a+b (c), d", "x:y*", "x:yz", "p.bpb"]
    parsed = Objective.parse('"a+b (c), d":min + 0.5*"x:y*":max', names)
    np.testing.assert_array_equal(parsed.weights_Q, [-1.0, 0.5, 0.0, 0.0])
    mean = Objective.parse('mean("a+b (c), d", p.*):max', names)
    np.testing.assert_array_equal(mean.weights_Q, [0.5, 0.0, 0.0, 0.5])
    literal = Objective.parse('mean("x:y*", p.*):max', names)
    np.testing.assert_array_equal(literal.weights_Q, [0.0, 0.5, 0.0, 0.5])
    with pytest.raises(ConfigError, match=r'quote a name with spaces, .*: `"a\+b":min`'):
        Objective.parse("a+b (c), d:min", names)
