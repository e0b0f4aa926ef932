"""The check of an export finds samples without the wanted shares, and no others."""

import dataclasses

import numpy as np
import pytest

from climb.errors import InputError, MixtureError
from climb.export import Contents, ExportedDomain, Sample, convert_weights
from climb.export.check import compare_shares, format_result
from climb.export.contents import Counted, count_samples

WEIGHTS = {"code": 0.5, "law": 0.3, "chat": 0.1995, "rare": 0.0005}
MEANS = {"code": 800, "law": 40, "chat": 100, "rare": 400}


def lengths_of(domain, n=4000):
    return np.random.default_rng(len(domain)).integers(1, 2 * MEANS[domain], n)


def make_contents(**changes):
    domains = [
        ExportedDomain(name, weight, len(own), int(own.sum()), float((own**2).sum()), 1.0)
        for name, weight in sorted(WEIGHTS.items())
        for own in [lengths_of(name)]
    ]
    contents = Contents("recipe", tuple(domains), (), None, 10**6, 256, 0, "/x")
    return dataclasses.replace(contents, **changes)


def draw(probabilities, n, seed):
    """What a loader counts of n documents that it draws with these probabilities."""
    random = np.random.default_rng(seed)
    p = np.array(list(probabilities.values()))
    counted = {}
    for name, samples in zip(probabilities, random.multinomial(n, p / p.sum()), strict=True):
        tokens_N = random.choice(lengths_of(name), samples)
        counted[name] = Counted(int(samples), int(tokens_N.sum()))
    return {name: own for name, own in counted.items() if own.samples}


CONVERTED = convert_weights(WEIGHTS, {d.name: d.mean_tokens for d in make_contents().domains})


def check(probabilities, n=5000, seed=0, **changes):
    return compare_shares(make_contents(**changes), draw(probabilities, n, seed), False)


def test_converted_weights_give_the_shares_of_tokens():
    delivered = {row.domain: row.delivered for row in check(CONVERTED, n=60_000).domains}
    for name, weight in WEIGHTS.items():
        assert delivered[name] == pytest.approx(weight, abs=0.01)


def make_long_tails(n_domains, seed):
    """Contents with many domains, of which most are rare, and log-normal lengths."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.full(n_domains, 0.3)) + 1e-5
    weights /= weights.sum()
    means = np.exp(random.normal(5, 1, n_domains))
    lengths = [np.ceil(m * np.exp(random.normal(-0.8, 1.3, 3000))).astype(int) for m in means]
    domains = [
        ExportedDomain(f"{k:04d}", w, len(own), int(own.sum()), float((own**2).sum()), 1.0)
        for k, (w, own) in enumerate(zip(weights.tolist(), lengths, strict=True))
    ]
    return make_contents(domains=tuple(domains)), lengths


@pytest.mark.parametrize("n_domains", [4, 200])
def test_weights_that_arrived_are_rejected_as_rarely_as_the_test_says(n_domains):
    p_values, n_lengths = [], 0
    for world in range(3):
        contents, lengths = make_long_tails(n_domains, world)
        p = np.array([d.weight / d.mean_tokens for d in contents.domains])
        for seed in range(100):
            random = np.random.default_rng([world, seed])
            counted = {}
            samples_K = random.multinomial(20_000, p / p.sum())
            for domain, own, n in zip(contents.domains, lengths, samples_K, strict=True):
                drawn = random.choice(own, n)
                if n:
                    counted[domain.name] = Counted(int(n), int(drawn.sum()))
            result = compare_shares(contents, counted, False)
            p_values.append(result.p_value)
            n_lengths += bool(result.other_lengths)
    p_values = np.array(p_values)
    assert n_lengths == 0
    assert np.mean(p_values < 0.001) <= 0.01
    assert np.mean(p_values < 0.05) < 0.09
    assert np.mean(p_values < 0.5) == pytest.approx(0.5, abs=0.1)


def test_weights_that_were_not_converted_are_found_in_few_samples():
    result = check(WEIGHTS, n=500)
    assert not result.arrived
    delivered = {row.domain: row.delivered for row in result.domains}
    assert abs(delivered["code"] - WEIGHTS["code"]) > 0.3
    assert "do NOT match" in format_result(result, "a loader")


def test_a_small_shift_of_one_weight_is_found_in_many_samples():
    shifted = CONVERTED | {"law": CONVERTED["law"] * 0.9}
    assert not check(shifted, n=60_000).arrived


def test_a_domain_that_never_comes_is_found():
    assert not check({name: p for name, p in CONVERTED.items() if name != "chat"}).arrived


def test_documents_that_are_longer_than_those_of_the_export_are_found():
    """The right number of documents, but each with twice the tokens."""
    counted = draw(CONVERTED, 20_000, 0)
    counted["law"] = dataclasses.replace(counted["law"], tokens=2 * counted["law"].tokens)
    result = compare_shares(make_contents(), counted, False)
    assert not result.arrived
    assert result.other_lengths == ("law",)
    text = format_result(result, "a loader")
    assert "the numbers of samples match the mixture\nsamples of law have other lengths" in text


def test_samples_of_one_length_are_tested_as_by_pearson():
    from scipy.stats import chisquare

    counts = {"code": 480, "law": 310, "chat": 205, "rare": 5}
    samples = [Sample(name, 256) for name, n in counts.items() for _ in range(n)]
    weights = {"code": 0.5, "law": 0.3, "chat": 0.19, "rare": 0.01}
    domains = tuple(dataclasses.replace(d, weight=weights[d.name]) for d in make_contents().domains)
    result = compare_shares(make_contents(domains=domains), count_samples(samples), True)
    names = sorted(counts)
    expected = chisquare([counts[n] for n in names], [1000 * weights[n] for n in names])
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert result.degrees == 3


def test_samples_of_a_domain_that_the_mixture_lacks_are_an_error():
    counted = count_samples([Sample("code", 3), Sample("spam", 2)] * 50)
    with pytest.raises(InputError, match="returned domains that the export does not have: spam"):
        compare_shares(make_contents(), counted, False)


def test_no_samples_are_an_error():
    with pytest.raises(InputError, match="no samples"):
        compare_shares(make_contents(), {}, False)


def test_few_samples_are_no_check():
    with pytest.raises(InputError, match="only 99 samples, and a check needs 100"):
        compare_shares(make_contents(), count_samples([Sample("code", 3)] * 99), True)


def test_one_domain_arrives_always():
    domain = dataclasses.replace(make_contents().domains[0], weight=1.0)
    result = compare_shares(
        make_contents(domains=(domain,)), count_samples([Sample(domain.name, 100)] * 100), False
    )
    assert result.arrived
    assert result.degrees == 0


def test_weights_of_documents_are_weights_of_tokens_by_their_length():
    assert convert_weights({"a": 0.5, "b": 0.5}, {"a": 10, "b": 1000}) == pytest.approx(
        {"a": 100 / 101, "b": 1 / 101}
    )


def test_a_domain_of_unknown_length_cannot_be_converted():
    with pytest.raises(MixtureError, match="tokens per document is unknown for b"):
        convert_weights({"a": 0.5, "b": 0.5}, {"a": 10.0})
