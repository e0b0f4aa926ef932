"""Limits: what they mean for each domain, and what is said when they cannot hold together."""

import numpy as np
import pytest

from climb.collisions import breaches
from climb.config import load
from climb.errors import ConfigError, MixtureError
from climb.limits import Limit, Limits
from climb.mixture import FeasibleSet

NAMES = ("code", "law", "web-1", "web-2")
TOKENS = [10.0, 20.0, 30.0, 40.0]


def limit(name, *domains, **values):
    return Limit(name=name, domains=domains or (name,), **values)


def made(*rules, names=NAMES, tokens=TOKENS, **limits):
    known = {"target_tokens": 100.0, "max_epochs": 5.0, "rules": rules} | limits
    return FeasibleSet.of(names, tokens, Limits(**known))


def refused(*rules, **given):
    with pytest.raises(MixtureError) as caught:
        made(*rules, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_domain_has_a_floor_and_a_cap_and_several_have_a_total():
    space = made(
        limit("code", min_weight=0.1, max_weight=0.2),
        limit("web", "web-*", min_weight=0.3, max_weight=0.6),
    )
    assert space.floors_K.tolist() == [0.1, 0.0, 0.0, 0.0]
    assert space.caps_K.tolist() == [0.2, 1.0, 1.0, 1.0]
    assert [(g.name, g.domains) for g in space.groups] == [("web", ("web-1", "web-2"))]


def test_a_pattern_that_matches_one_domain_limits_that_domain():
    space = made(limit("c", "co*", max_weight=0.2))
    assert (space.caps_K[0], space.groups) == (0.2, ())


def test_a_name_with_wildcards_in_it_is_a_name_first():
    space = made(limit("x", "a[b]*", max_weight=0.3), names=("a[b]*", "ab1", "ab2", "c"))
    np.testing.assert_array_equal(space.caps_K, [0.3, 1.0, 1.0, 1.0])


def test_of_several_limits_of_one_domain_the_tightest_holds():
    space = made(
        limit("one", "code", min_weight=0.1, max_weight=0.3),
        limit("two", "code", min_weight=0.2, max_weight=0.25),
    )
    assert (space.floors_K[0], space.caps_K[0]) == (0.2, 0.25)


def test_epochs_of_a_domain_take_the_place_of_those_of_all_in_both_directions():
    space = made(limit("less", "law", max_epochs=1.0), limit("more", "code", max_epochs=8.0))
    np.testing.assert_allclose(space.caps_K, [0.8, 0.2, 1.0, 1.0])
    only = made(limit("web", "web-*", max_epochs=1.0), max_epochs=None)
    np.testing.assert_allclose(only.caps_K, [1.0, 1.0, 0.3, 0.4])


def test_limits_of_epochs_overlap_with_anything_and_the_smallest_wins():
    space = made(
        limit("web", "web-*", max_weight=0.9, max_epochs=2.0),
        limit("all", "*", max_epochs=3.0),
        limit("first", "*-1", max_epochs=1.0),
    )
    np.testing.assert_allclose(space.caps_K, [0.3, 0.6, 0.3, 0.8])
    assert len(space.groups) == 1


def test_groups_that_share_a_domain_are_refused_and_named_with_it():
    said = refused(
        limit("web", "web-*", max_weight=0.6), limit("mine", "web-2", "law", min_weight=0.1)
    )
    assert "search.limits 'web' and search.limits 'mine'" in said
    assert "weights of web-2; groups must not share" in said


def test_a_domain_that_there_is_not_is_named_with_the_nearest():
    assert "'codes' matches none of the 4 domains; the nearest is 'code'" in refused(
        limit("x", "codes", max_weight=0.5)
    )
    assert "'wab-*' matches none" in refused(limit("x", "law", "wab-*", max_epochs=2.0))


def test_shares_without_tokens_keep_limits_of_weights_alone():
    limits = Limits(
        target_tokens=1e9,
        max_epochs=4.0,
        rules=(limit("code", max_weight=0.3, max_epochs=1.0), limit("law", max_epochs=1.0)),
    )
    space = FeasibleSet.of(NAMES, np.array(TOKENS) / 100.0, limits.without_epochs())
    np.testing.assert_allclose(space.caps_K, [0.3, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_tokens": 0.0}, "target_tokens is 0.0; it must be a positive number"),
        ({"max_epochs": float("inf")}, "max_epochs is inf; it must be a positive number"),
        ({"max_share_ratio": 0.5}, "max_share_ratio is 0.5; it must be 1 or more"),
        ({"min_weight": 1.0}, r"min_weight is 1.0; it must lie in \[0, 1\)"),
        ({"pull": -1.0}, "pull is -1.0; it must be 0 or more"),
        ({"rules": (limit("a"), limit("a"))}, "limits are named twice: a"),
    ],
)
def test_limits_that_make_no_sense_are_named(values, message):
    with pytest.raises(MixtureError, match=message):
        Limits(**({"target_tokens": 1.0, "max_epochs": 1.0} | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"domains": ()}, "needs a name and domains"),
        ({"min_weight": 0.5, "max_weight": 0.4}, "min_weight 0.5 and max_weight 0.4; right is"),
        ({"max_weight": 1.5}, "max_weight 1.5; right is"),
        ({"min_weight": float("nan")}, "min_weight nan"),
        ({"max_epochs": 0.0}, "limit 'a': max_epochs is 0.0; it must be a positive number"),
    ],
)
def test_a_limit_that_makes_no_sense_is_named(values, message):
    with pytest.raises(MixtureError, match=message):
        Limit(**({"name": "a", "domains": ("a",)} | values))


def test_too_few_tokens_say_how_many_there_are_and_how_many_are_needed():
    said = refused(max_epochs=2.0, target_tokens=400.0)
    assert "100 tokens times max_epochs 2 give 200 tokens, but the target run needs 400" in said
    assert "raise search.max_epochs to 4" in said
    said = refused(limit("web", "web-*", max_epochs=1.0), max_epochs=2.0, target_tokens=400.0)
    assert (
        "give 130 tokens, but the target run needs 400 (270 more): raise search.max_epochs" in said
    )


def test_caps_too_small_for_a_mixture_are_listed_with_what_sets_them():
    said = refused(
        limit("web", "web-*", max_weight=0.3),
        limit("law", max_weight=0.4),
        limit("code", max_epochs=1.0),
    )
    assert "caps sum to 0.8, a mixture needs 1 (0.2 more)" in said
    for part in (
        "search.limits 'web' 0.3 (max_weight)",
        "law 0.4 (search.limits 'law': max_weight)",
        "code 0.1 (search.limits 'code': max_epochs 1 of its 10 tokens)",
    ):
        assert part in said


def test_many_caps_are_cut_to_the_largest():
    names = [f"d{i:02d}" for i in range(20)]
    rules = [limit(name, max_weight=(i + 1) / 1000) for i, name in enumerate(names)]
    said = refused(*rules, names=names, tokens=[1.0] * 20, max_epochs=None)
    assert "0.21, a mixture needs 1 (0.79 more): d19 0.02 (" in said
    assert "d12 0.013 (search.limits 'd12': max_weight) and 12 more; raise" in said


def test_floors_beyond_the_whole_are_listed_with_what_sets_them():
    said = refused(
        limit("web", "web-*", min_weight=0.7),
        limit("law", min_weight=0.3),
        limit("code", min_weight=0.25),
    )
    assert "floors sum to 1.25, a mixture has 1 (0.25 too much)" in said
    assert "search.limits 'web' 0.7 (min_weight), law 0.3 (search.limits 'law': min_weight)" in said


@pytest.mark.parametrize(
    ("cap", "limits", "reason"),
    [
        (limit("cap", "code", max_epochs=2.0), {}, "search.limits 'cap': max_epochs 2 of its 10"),
        (limit("cap", "code", max_weight=0.2), {}, "search.limits 'cap': max_weight"),
        (limit("cap", "law"), {"max_epochs": 2.0}, "search.max_epochs 2 of its 10 tokens"),
        (limit("cap", "law"), {"max_share_ratio": 2.0}, "search.max_share_ratio 2 of its share"),
    ],
)
def test_a_floor_above_its_cap_says_what_sets_both(cap, limits, reason):
    said = refused(limit("floor", "code", min_weight=0.25), cap, **limits)
    assert "domain 'code' must have at least 0.25 (search.limits 'floor': min_weight)" in said
    assert f"which is 0.05 more than its cap of 0.2 ({reason}" in said


def test_a_floor_of_a_domain_without_tokens_is_refused():
    said = refused(limit("code", min_weight=0.1), tokens=[0.0, 20.0, 30.0, 40.0])
    assert "0.1 more than its cap of 0 (it holds no tokens)" in said


def test_a_group_that_its_domains_cannot_fill_lists_their_caps():
    said = refused(limit("web", "web-*", min_weight=0.8), limit("few", "web-*", max_epochs=1.0))
    assert (
        "search.limits 'web': min_weight 0.8 is 0.1 more than the caps of its domains, 0.7" in said
    )
    assert "web-1 0.3 (search.limits 'few': max_epochs 1 of its 30 tokens), web-2 0.4" in said


def test_a_group_that_the_floors_of_its_domains_exceed_lists_them():
    said = refused(
        limit("web", "web-*", max_weight=0.5),
        limit("one", "web-1", min_weight=0.4),
        limit("two", "web-2", min_weight=0.2),
    )
    assert (
        "'web': max_weight 0.5 is 0.1 less than the floors of its domains, 0.6: web-1 0.4" in said
    )


def test_collisions_that_have_nothing_to_do_with_each_other_are_all_told():
    said = refused(
        limit("code", min_weight=0.9),
        limit("cap", "code", max_weight=0.8),
        limit("web", "web-*", max_weight=0.5),
        limit("two", "web-2", min_weight=0.6),
    )
    assert "domain 'code' must have at least 0.9" in said
    assert "search.limits 'web': max_weight 0.5 is 0.1 less" in said
    assert "floors sum to 1.5" in said


def test_a_smallest_weight_above_the_caps_names_the_domains_it_shuts_out():
    said = refused(max_epochs=1.0, min_weight=0.15)
    assert "caps sum to 1, but to 0.9 with weights of at least search.min_weight 0.15" in said
    assert "(caps below search.min_weight: code)" in said


def test_a_smallest_weight_that_no_number_of_domains_can_meet_is_refused():
    rules = [limit(name, max_weight=0.4) for name in NAMES]
    assert "but to 0.8 with weights of at least search.min_weight 0.4;" in refused(
        *rules, min_weight=0.4
    )


def test_a_floor_can_take_the_place_of_a_domain_that_is_needed():
    # b, c and d hold 1.02; with a, which must take part, only two of them have room.
    rules = [limit(name, max_weight=0.34) for name in "bcd"] + [limit("a", max_weight=0.3)]
    given = {"names": tuple("abcd"), "tokens": [1.0] * 4, "max_epochs": None, "min_weight": 0.3}
    assert made(*rules, **given)
    said = refused(*rules, limit("floor", "a", min_weight=0.01), **given)
    assert "caps sum to 1.32, but to 0.98 with weights of at least search.min_weight 0.3" in said


def test_a_floor_under_the_smallest_weight_counts_as_that():
    kept = made(limit("code", min_weight=0.01), min_weight=0.1)
    assert kept.project([0.0, 0.5, 0.5, 0.0])[0] == pytest.approx(0.1)
    said = refused(limit("code", min_weight=0.01, max_weight=0.05), min_weight=0.1)
    assert "0.1 (search.min_weight, where search.limits 'code': min_weight keeps it in)" in said
    assert "0.05 more than its cap of 0.05 (search.limits 'code': max_weight)" in said


def test_a_group_under_the_smallest_weight_with_a_floor_inside_is_refused():
    said = refused(
        limit("web", "web-*", max_weight=0.05),
        limit("web-1", min_weight=0.01),
        min_weight=0.1,
    )
    assert "'web': max_weight 0.05 is 0.05 less than the floors of its domains, 0.1" in said


def test_a_group_whose_caps_lie_under_the_smallest_weight_cannot_have_a_least():
    said = refused(
        limit("web", "web-*", min_weight=0.15), limit("e", "web-*", max_epochs=0.3), min_weight=0.1
    )
    assert "min_weight 0.15 is 0.03 more than the caps of its domains, 0.12" in said
    assert "(caps below search.min_weight: web-1)" in said


def test_a_total_that_no_number_of_smallest_weights_gives_is_refused():
    said = refused(limit("web", "web-*", min_weight=0.02, max_weight=0.05), min_weight=0.1)
    assert "no number of weights of at least search.min_weight 0.1 gives web-1, web-2 a tot" in said
    assert "of 0.02 to 0.05: lower search.min_weight, or widen the limit" in said


def test_groups_that_need_more_domains_than_the_smallest_weight_allows_are_refused():
    rules = [limit(name, max_weight=0.25) for name in "abcdef"]
    rules += [limit(pair, *pair, min_weight=0.3) for pair in ("ab", "cd", "ef")]
    given = {"names": tuple("abcdef"), "tokens": [1.0] * 6, "max_epochs": None}
    assert made(*rules, **given, min_weight=0.15)
    assert "the smallest possible weights sum to 1.2, 0.2 too much" in refused(
        *rules, **given, min_weight=0.2
    )


def test_a_mixture_s_breaches_are_told_with_what_it_breaks():
    space = made(
        limit("web", "web-*", max_weight=0.5),
        limit("code", min_weight=0.1),
        limit("law", max_weight=0.3),
        min_weight=0.05,
    )
    assert breaches(space, np.array([0.2, 0.3, 0.1, 0.4]), 1e-9) == []
    assert breaches(space, np.array([0.02, 0.35, 0.6, 0.03]), 1e-9) == [
        "code 0.02, at least 0.1 (search.limits 'code': min_weight)",
        "law 0.35, at most 0.3 (search.limits 'law': max_weight)",
        "web-2 0.03, 0 or at least search.min_weight 0.05",
        "web-1, web-2 together 0.63, right is 0 to 0.5 (search.limits 'web')",
    ]


def test_limits_come_from_the_configuration():
    cfg = load(settings=["search.limits=[{name: web, domains: ['web-*'], max_weight: 0.5}]"]).search
    limits = Limits.of(cfg)
    assert limits.rules == (limit("web", "web-*", max_weight=0.5),)
    assert (limits.max_epochs, limits.pull) == (cfg.max_epochs, cfg.pull)
    assert Limits.of(load().search).rules == ()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "limits=[{name: a, domains: [a], min_wait: 1}]",
            r"limits\.0\.min_wait; did you mean 'min_w",
        ),
        ("limits=[{name: a, domains: [a], max_weight: 2}]", r"limits\.0\.max_weight is 2: .* 1"),
        ("limits=[{name: a, domains: [a], max_epochs: 0}]", r"limits\.0\.max_epochs is 0"),
        ("limits=[{name: a, domains: []}]", r"limits\.0\.domains"),
        ("limits=[{domains: [a]}]", r"limits\.0\.name is missing"),
        (
            "limits=[{name: a, domains: [a], min_weight: 0.5, max_weight: 0.4}]",
            r"limits\.0: limit 'a' has min_weight 0\.5 and max_weight 0\.4",
        ),
        ("limits=[{name: a, domains: [a]}, {name: a, domains: [b]}]", "search: .*named twice: a"),
        ("max_share_ratio=0.5", "search: max_share_ratio is 0.5"),
        ("min_weight=1", "search: min_weight is 1"),
        ("pull=-1", r"search\.pull is -1"),
    ],
)
def test_wrong_limits_in_the_configuration_are_named_with_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        load(settings=[f"search.{setting}"])
