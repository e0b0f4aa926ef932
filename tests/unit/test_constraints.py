"""Constraints: the bounds that they give each domain, and the messages about conflicts."""

import numpy as np
import pytest

from climb.config import Config, load
from climb.errors import ConfigError, MixtureError
from climb.mixture import Constraint, Constraints, FeasibleSet
from climb.mixture.conflicts import find_violations

NAMES = ("code", "law", "web-1", "web-2")
TOKENS = [10.0, 20.0, 30.0, 40.0]


def constrain(name, *domains, **values):
    return Constraint(name=name, domains=domains or (name,), **values)


def build(*domain_constraints, names=NAMES, tokens=TOKENS, **values):
    defaults = {"target_tokens": 100.0, "max_epochs": 5.0}
    constraints = Constraints(**defaults | {"domain_constraints": domain_constraints} | values)
    return FeasibleSet.from_constraints(names, tokens, constraints)


def message_of(*domain_constraints, **values):
    with pytest.raises(MixtureError) as caught:
        build(*domain_constraints, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_domain_has_a_lower_and_an_upper_bound_and_several_have_a_bounded_sum():
    space = build(
        constrain("code", min_weight=0.1, max_weight=0.2),
        constrain("web", "web-*", min_weight=0.3, max_weight=0.6),
    )
    assert space.bounds.lower_K.tolist() == [0.1, 0.0, 0.0, 0.0]
    assert space.upper_K.tolist() == [0.2, 1.0, 1.0, 1.0]
    assert [(g.name, g.domains) for g in space.bounds.groups] == [("web", ("web-1", "web-2"))]


def test_a_pattern_that_matches_one_domain_bounds_that_domain():
    space = build(constrain("c", "co*", max_weight=0.2))
    assert (space.upper_K[0], space.bounds.groups) == (0.2, ())


def test_a_name_with_wildcards_in_it_is_a_name_first():
    space = build(constrain("x", "a[b]*", max_weight=0.3), names=("a[b]*", "ab1", "ab2", "c"))
    np.testing.assert_array_equal(space.upper_K, [0.3, 1.0, 1.0, 1.0])


def test_the_tightest_of_several_constraints_on_one_domain_applies():
    space = build(
        constrain("one", "code", min_weight=0.1, max_weight=0.3),
        constrain("two", "code", min_weight=0.2, max_weight=0.25),
    )
    assert (space.bounds.lower_K[0], space.upper_K[0]) == (0.2, 0.25)


def test_the_epochs_of_a_domain_replace_those_of_all_in_both_directions():
    space = build(
        constrain("less", "law", max_epochs=1.0), constrain("more", "code", max_epochs=8.0)
    )
    np.testing.assert_allclose(space.upper_K, [0.8, 0.2, 1.0, 1.0])
    only = build(constrain("web", "web-*", max_epochs=1.0), max_epochs=None)
    np.testing.assert_allclose(only.upper_K, [1.0, 1.0, 0.3, 0.4])


def test_constraints_of_epochs_may_overlap_and_the_smallest_applies():
    space = build(
        constrain("web", "web-*", max_weight=0.9, max_epochs=2.0),
        constrain("all", "*", max_epochs=3.0),
        constrain("first", "*-1", max_epochs=1.0),
    )
    np.testing.assert_allclose(space.upper_K, [0.3, 0.6, 0.3, 0.8])
    assert len(space.bounds.groups) == 1


def test_groups_that_share_a_domain_are_an_error_that_names_both_and_the_domain():
    message = message_of(
        constrain("web", "web-*", max_weight=0.6),
        constrain("mine", "web-2", "law", min_weight=0.1),
    )
    assert "search.constraints 'web' and search.constraints 'mine'" in message
    assert "sum of weights that contains web-2; groups must not share" in message


def test_a_domain_that_does_not_exist_is_named_with_the_nearest():
    assert "'codes' matches none of the 4 domains; did you mean 'code'?" in message_of(
        constrain("x", "codes", max_weight=0.5)
    )
    assert "'wab-*' matches none" in message_of(constrain("x", "law", "wab-*", max_epochs=2.0))


def test_shares_without_token_counts_keep_the_constraints_on_weights_alone():
    constraints = Constraints(
        target_tokens=1e9,
        max_epochs=4.0,
        domain_constraints=(
            constrain("code", max_weight=0.3, max_epochs=1.0),
            constrain("law", max_epochs=1.0),
        ),
    )
    space = FeasibleSet.from_constraints(
        NAMES, np.array(TOKENS) / 100.0, constraints.without_epochs()
    )
    np.testing.assert_allclose(space.upper_K, [0.3, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_tokens": 0.0}, "target_tokens is 0.0; it must be finite and above 0"),
        ({"max_epochs": float("inf")}, "max_epochs is inf; it must be finite and above 0"),
        ({"max_share_ratio": 0.5}, "max_share_ratio is 0.5; it must be at least 1"),
        ({"min_weight": 1.0}, r"min_weight is 1.0; it must be in \[0, 1\)"),
        ({"kl_penalty": -1.0}, "kl_penalty is -1.0; it must be finite and at least 0"),
        (
            {"domain_constraints": (constrain("a"), constrain("a"))},
            "duplicate names of constraints: a",
        ),
    ],
)
def test_an_invalid_value_is_named(values, message):
    with pytest.raises(MixtureError, match=message):
        Constraints(**({"target_tokens": 1.0, "max_epochs": 1.0} | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, r"a constraint on \['a'\]: name is empty; set a name"),
        ({"domains": ()}, "constraint 'a': domains is empty; list at least one name"),
        (
            {"min_weight": 0.5, "max_weight": 0.4},
            "'a': min_weight 0.5 is greater than max_weight 0.4; it must be 0 <= min_weight <= max",
        ),
        ({"max_weight": 1.5}, "'a': max_weight is 1.5; it must be between 0 and 1"),
        ({"min_weight": -0.5}, "'a': min_weight is -0.5; it must be between 0 and 1"),
        ({"min_weight": float("nan")}, "'a': min_weight is nan; it must be between 0 and 1"),
        ({"max_epochs": 0.0}, "constraint 'a': max_epochs is 0.0; it must be finite and above 0"),
    ],
)
def test_an_invalid_constraint_is_named_with_its_field(values, message):
    with pytest.raises(MixtureError, match=message):
        Constraint(**({"name": "a", "domains": ("a",)} | values))


def test_too_few_tokens_are_reported_with_the_tokens_that_the_target_run_needs():
    message = message_of(max_epochs=2.0, target_tokens=400.0)
    assert (
        "100 tokens times max_epochs 2 give 200 tokens, but 400 are needed (200 more): " in message
    )
    assert "raise search.max_epochs to 4" in message
    # The advice is rounded up, so that it is enough.
    assert "raise search.max_epochs to 4.13," in message_of(max_epochs=2.0, target_tokens=412.2)
    assert build(max_epochs=4.13, target_tokens=412.2).domains == NAMES
    message = message_of(
        constrain("web", "web-*", max_epochs=1.0), max_epochs=2.0, target_tokens=400.0
    )
    assert "give 130 tokens, but 400 are needed (270 more): raise search.max_epochs" in message


@pytest.mark.parametrize("min_weight", [0.0, 2e-4])
def test_a_corpus_that_is_one_token_short_is_too_small_whatever_the_smallest_weight(min_weight):
    tokens = [12187102.0, 674818535.0, 312994362.0]
    settings = {"max_epochs": 1.0, "min_weight": min_weight}
    with pytest.raises(MixtureError, match=r"give 1e\+09 tokens, but 1e\+09 are needed"):
        FeasibleSet.from_constraints("abc", tokens, Constraints(target_tokens=1e9, **settings))
    exact = FeasibleSet.from_constraints(
        "abc", [*tokens[:2], tokens[2] + 1.0], Constraints(target_tokens=1e9, **settings)
    )
    np.testing.assert_allclose(exact.uniform_K, exact.natural_K, atol=1e-8)


def test_upper_bounds_that_sum_to_less_than_one_are_listed_with_their_keys():
    message = message_of(
        constrain("web", "web-*", max_weight=0.3),
        constrain("law", max_weight=0.4),
        constrain("code", max_epochs=1.0),
    )
    assert "the upper bounds sum to 0.8, which is 0.2 below 1: " in message
    for part in (
        "search.constraints 'web' 0.3 (max_weight)",
        "law 0.4 (search.constraints 'law': max_weight)",
        "code 0.1 (search.constraints 'code': max_epochs 1 * 10 tokens / 100 target tokens)",
    ):
        assert part in message


def test_a_list_of_many_upper_bounds_is_cut_to_the_largest():
    names = [f"d{i:02d}" for i in range(20)]
    bounds = [constrain(name, max_weight=(i + 1) / 1000) for i, name in enumerate(names)]
    message = message_of(*bounds, names=names, tokens=[1.0] * 20, max_epochs=None)
    assert "sum to 0.21, which is 0.79 below 1: d19 0.02 (" in message
    assert "d12 0.013 (search.constraints 'd12': max_weight) and 12 more; raise" in message


def test_lower_bounds_that_sum_to_more_than_one_are_listed_with_their_keys():
    message = message_of(
        constrain("web", "web-*", min_weight=0.7),
        constrain("law", min_weight=0.3),
        constrain("code", min_weight=0.25),
    )
    assert "the lower bounds sum to 1.25, which is 0.25 above 1: " in message
    assert (
        "search.constraints 'web' 0.7 (min_weight), law 0.3 (search.constraints 'law': min_weight)"
        in message
    )


@pytest.mark.parametrize(
    ("upper", "constraints", "reason"),
    [
        (
            constrain("upper", "code", max_epochs=2.0),
            {},
            "search.constraints 'upper': max_epochs 2 * 10 tokens / 100 target tokens",
        ),
        (constrain("upper", "code", max_weight=0.2), {}, "search.constraints 'upper': max_weight"),
        (
            constrain("upper", "law"),
            {"max_epochs": 2.0},
            "search.max_epochs 2 * 10 tokens / 100 target tokens",
        ),
        (
            constrain("upper", "law"),
            {"max_share_ratio": 2.0},
            "search.max_share_ratio 2 times its token share",
        ),
    ],
)
def test_a_lower_bound_above_its_upper_bound_is_reported_with_both_keys(upper, constraints, reason):
    message = message_of(constrain("lower", "code", min_weight=0.25), upper, **constraints)
    assert "domain 'code': lower bound 0.25 (search.constraints 'lower': min_weight)" in message
    assert f"is 0.05 above upper bound 0.2 ({reason})" in message


def test_a_lower_bound_of_a_domain_without_tokens_is_an_error():
    message = message_of(constrain("code", min_weight=0.1), tokens=[0.0, 20.0, 30.0, 40.0])
    assert "is 0.1 above upper bound 0 (the domain has no tokens)" in message


def test_a_group_that_its_domains_cannot_fill_lists_their_upper_bounds():
    message = message_of(
        constrain("web", "web-*", min_weight=0.8), constrain("few", "web-*", max_epochs=1.0)
    )
    assert (
        "search.constraints 'web': min_weight 0.8 is 0.1 above the sum of its domains' upper "
        "bounds, 0.7" in message
    )
    assert (
        "web-1 0.3 (search.constraints 'few': max_epochs 1 * 30 tokens / 100 target tokens), "
        "web-2 0.4" in message
    )


def test_a_group_that_the_lower_bounds_of_its_domains_exceed_lists_them():
    message = message_of(
        constrain("web", "web-*", max_weight=0.5),
        constrain("one", "web-1", min_weight=0.4),
        constrain("two", "web-2", min_weight=0.2),
    )
    assert (
        "'web': max_weight 0.5 is 0.1 below the sum of its domains' lower bounds, 0.6: web-1 0.4"
        in message
    )


def test_all_independent_conflicts_are_reported():
    message = message_of(
        constrain("code", min_weight=0.9),
        constrain("upper", "code", max_weight=0.8),
        constrain("web", "web-*", max_weight=0.5),
        constrain("two", "web-2", min_weight=0.6),
    )
    assert "domain 'code': lower bound 0.9" in message
    assert "search.constraints 'web': max_weight 0.5 is 0.1 below" in message
    assert "lower bounds sum to 1.5" in message


def test_a_smallest_weight_above_upper_bounds_lists_the_domains_that_it_excludes():
    message = message_of(max_epochs=1.0, min_weight=0.15)
    assert (
        "with search.min_weight 0.15, no subset of the domains can sum to 1; the largest sum "
        "below 1 is 0.9 (upper bounds below search.min_weight count as 0: code); lower "
        "search.min_weight" in message
    )


def test_a_smallest_weight_that_no_number_of_domains_satisfies_is_an_error():
    bounds = [constrain(name, max_weight=0.4) for name in NAMES]
    message = message_of(*bounds, min_weight=0.4)
    assert "with search.min_weight 0.4, no subset of the domains can sum to 1; the largest " in (
        message
    )
    assert "sum below 1 is 0.8; lower search.min_weight" in message


def test_a_lower_bound_can_exclude_a_domain_that_is_needed():
    # b, c and d have 1.02; with a, which is required, there is room for only two of them.
    bounds = [constrain(name, max_weight=0.34) for name in "bcd"] + [constrain("a", max_weight=0.3)]
    values = {"names": tuple("abcd"), "tokens": [1.0] * 4, "max_epochs": None, "min_weight": 0.3}
    assert build(*bounds, **values)
    message = message_of(*bounds, constrain("lower", "a", min_weight=0.01), **values)
    assert "with search.min_weight 0.3, no subset of the domains can sum to 1; the largest " in (
        message
    )
    assert "sum below 1 is 0.98; lower search.min_weight" in message


def test_a_lower_bound_below_the_smallest_weight_is_raised_to_it():
    space = build(constrain("code", min_weight=0.01), min_weight=0.1)
    assert space.project([0.0, 0.5, 0.5, 0.0])[0] == pytest.approx(0.1)
    message = message_of(constrain("code", min_weight=0.01, max_weight=0.05), min_weight=0.1)
    assert (
        "lower bound 0.1 (search.min_weight, because search.constraints 'code': min_weight "
        "requires a weight above 0)" in message
    )
    assert (
        "is 0.05 above upper bound 0.05 (search.constraints 'code': max_weight); lower the"
        in message
    )


def test_a_group_below_the_smallest_weight_with_a_required_domain_is_an_error():
    message = message_of(
        constrain("web", "web-*", max_weight=0.05),
        constrain("web-1", min_weight=0.01),
        min_weight=0.1,
    )
    assert (
        "'web': max_weight 0.05 is 0.05 below the sum of its domains' lower bounds, 0.1" in message
    )


def test_a_group_with_upper_bounds_below_the_smallest_weight_cannot_have_a_lower_bound():
    message = message_of(
        constrain("web", "web-*", min_weight=0.15),
        constrain("e", "web-*", max_epochs=0.3),
        min_weight=0.1,
    )
    assert "min_weight 0.15 is 0.03 above the sum of its domains' upper bounds, 0.12" in message
    assert "(upper bounds below search.min_weight count as 0: web-1); lower min_weight" in message


def test_a_sum_that_no_number_of_smallest_weights_gives_is_an_error():
    message = message_of(
        constrain("web", "web-*", min_weight=0.02, max_weight=0.05), min_weight=0.1
    )
    assert (
        "no subset of web-1, web-2 with weights of at least search.min_weight 0.1 can sum to "
        "between 0.02 and 0.05; lower search.min_weight, or change min_weight or max_weight of the "
        "constraint" in message
    )


def test_groups_that_need_more_domains_than_the_smallest_weight_allows_are_an_error():
    bounds = [constrain(name, max_weight=0.25) for name in "abcdef"]
    bounds += [constrain(pair, *pair, min_weight=0.3) for pair in ("ab", "cd", "ef")]
    values = {"names": tuple("abcdef"), "tokens": [1.0] * 6, "max_epochs": None}
    assert build(*bounds, **values, min_weight=0.15)
    assert (
        "with search.min_weight 0.2, the weights sum to at least 1.2, but a mixture"
        in message_of(*bounds, **values, min_weight=0.2)
    )


def test_the_violations_of_a_mixture_are_reported_with_the_violated_bound():
    bounds = build(
        constrain("web", "web-*", max_weight=0.5),
        constrain("code", min_weight=0.1),
        constrain("law", max_weight=0.3),
        min_weight=0.05,
    ).bounds
    assert find_violations(bounds, np.array([0.2, 0.3, 0.1, 0.4]), 1e-9) == []
    assert find_violations(bounds, np.array([0.02, 0.35, 0.6, 0.03]), 1e-9) == [
        "code: weight 0.02 is below its lower bound 0.1 (search.constraints 'code': min_weight)",
        "law: weight 0.35 is above its upper bound 0.3 (search.constraints 'law': max_weight)",
        "web-2: weight 0.03 is neither 0 nor at least search.min_weight 0.05",
        "web-1, web-2: the sum of weights is 0.63; it must be 0 to 0.5 (search.constraints 'web')",
    ]


def test_constraints_come_from_the_configuration():
    cfg = load(
        settings=["search.constraints=[{name: web, domains: ['web-*'], max_weight: 0.5}]"]
    ).search
    constraints = cfg.mixture_constraints
    assert constraints.domain_constraints == (constrain("web", "web-*", max_weight=0.5),)
    assert (constraints.max_epochs, constraints.kl_penalty) == (cfg.max_epochs, cfg.kl_penalty)
    assert load().search.mixture_constraints.domain_constraints == ()


def test_a_configuration_with_constraints_survives_a_round_trip():
    cfg = load(settings=["search.constraints=[{name: a, domains: [a], max_epochs: 2}]"])
    assert Config.model_validate(cfg.model_dump(mode="json")) == cfg


def test_without_an_epoch_limit_only_constraints_of_epochs_bound_the_repetition():
    own = "search.constraints=[{name: law, domains: [law], max_epochs: 2}]"
    cfg = load(settings=["search.max_epochs=null", "search.max_share_ratio=null", own]).search
    constraints = cfg.mixture_constraints
    assert constraints.find_epoch_limits(NAMES) == {
        "law": (2.0, "search.constraints 'law': max_epochs")
    }
    space = FeasibleSet.from_constraints(NAMES, np.array(TOKENS) * 1e9, constraints)
    np.testing.assert_allclose(space.upper_K, [1.0, 2 * 20 / 40, 1.0, 1.0])
    assert load(settings=["search.max_epochs=null"]).search.max_epochs is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "constraints=[{name: a, domains: [a], min_wait: 1}]",
            r"unknown key search\.constraints\.0\.min_wait; did you mean 'min_weight'",
        ),
        (
            "constraints=[{name: a, domains: [a], max_weight: 2}]",
            r"search\.constraints\.0: constraint 'a': max_weight is 2; it must be between 0 and 1",
        ),
        (
            "constraints=[{name: a, domains: [a], max_weight: much}]",
            r"search\.constraints\.0\.max_weight is 'much'",
        ),
        (
            "constraints=[{name: a, domains: [a], max_epochs: 0}]",
            r"search\.constraints\.0: constraint 'a': max_epochs is 0.0; it must be finite",
        ),
        (
            "constraints=[{name: a, domains: []}]",
            r"search\.constraints\.0: constraint 'a': domains is empty; list at least one",
        ),
        ("constraints=[{domains: [a]}]", r"search\.constraints\.0\.name is missing"),
        (
            "constraints=[{name: a, domains: [a], min_weight: 0.5, max_weight: 0.4}]",
            r"search\.constraints\.0: constraint 'a': min_weight 0\.5 is greater than max_weight "
            r"0\.4; it must be 0 <= min_weight <= max_weight <= 1",
        ),
        (
            "constraints=[{name: a, domains: [a]}, {name: a, domains: [b]}]",
            "search: duplicate names of constraints: a",
        ),
        ("max_share_ratio=0.5", "search: max_share_ratio is 0.5"),
        ("min_weight=1", "search: min_weight is 1"),
        ("kl_penalty=-1", r"search\.kl_penalty is -1"),
    ],
)
def test_an_invalid_constraint_in_the_configuration_is_named_with_its_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        load(settings=[f"search.{setting}"])


def test_mistakes_in_constraints_are_reported_with_all_other_mistakes():
    wrong = "search.constraints=[{name: a, domains: [a], max_weight: 2}, {nam: b, domains: [b]}]"
    with pytest.raises(ConfigError) as caught:
        load(settings=[wrong, "cluster.k=none"])
    message = str(caught.value)
    assert "search.constraints.0: constraint 'a': max_weight is 2" in message
    assert "unknown key search.constraints.1.nam; did you mean 'name'" in message
    assert "cluster.k is 'none'" in message
