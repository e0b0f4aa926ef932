"""Check that the samples of a trainer's loader have the shares of the mixture.

A loader that draws documents delivers the wanted shares of tokens if the probability of each domain
is proportional to its weight / mean tokens per document. Pearson's chi-square test compares the
number of samples of each domain with these probabilities. It does not use the lengths of the
samples: their heavy tails would make a test of tokens invalid. If samples are documents, a second
test compares their mean length with the mean length of the documents in the export. The second test
finds documents that were cut or joined.
A loader that balances its sources instead of drawing them at random gives a smaller statistic.

Axis: K domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from climb.errors import InputError
from climb.export.contents import Contents, Counted

LEAST_SAMPLES = 100

LEAST_EXPECTED = 5.0
"""The smallest domains form one group, which has at least this many expected samples."""

REJECTED_BELOW = 1e-4
"""Smaller p-values reject the hypothesis that the samples have the shares of the mixture."""

LENGTH_STDS = 6.0
"""Maximum difference between two mean lengths, of the samples and of the documents in the export,
in standard deviations."""

LEAST_EFFECTIVE = 200.0
"""Minimum effective number of samples for a test of their mean length. The effective number of n
samples is n (mean tokens)^2 / mean (tokens^2)."""


@dataclass(frozen=True)
class Delivered:
    """One domain in the result of a check; `wanted` and `delivered` are shares of tokens."""

    domain: str
    wanted: float
    delivered: float
    std: float
    """Standard deviation of the delivered share if the samples have the shares of the mixture."""

    samples: int


@dataclass(frozen=True)
class CheckResult:
    """The result of a check."""

    domains: tuple[Delivered, ...]
    """Largest wanted share first."""

    samples: int
    statistic: float
    degrees: int
    p_value: float
    other_lengths: tuple[str, ...]
    """Domains whose samples have another mean length than the documents of the export."""

    @property
    def arrived(self) -> bool:
        """Whether shares and lengths match the export, up to chance."""
        return self.p_value >= REJECTED_BELOW and not self.other_lengths


def compare_shares(
    contents: Contents, counted: Mapping[str, Counted], fixed_length: bool
) -> CheckResult:
    """Test whether the samples that a loader returned have the shares of the mixture.

    Args:
        contents: the wanted shares, and the lengths of the documents.
        counted: samples and tokens per domain.
        fixed_length: whether samples are sequences of one length, and not documents.

    Raises:
        InputError: there are fewer than LEAST_SAMPLES samples, or one is from a domain that the
            mixture does not have.
    """
    n_samples, n_tokens = _sum_samples(contents, counted)
    counted_K = [counted.get(domain.name, Counted()) for domain in contents.domains]
    wanted_K = find_wanted(contents)
    if fixed_length:
        mean_K = np.full(len(wanted_K), n_tokens / n_samples)
        square_K = mean_K**2
    else:
        mean_K = np.array([domain.mean_tokens for domain in contents.domains])
        square_K = np.array([d.squared_tokens / d.documents for d in contents.domains])
    p_K = wanted_K / mean_K / (wanted_K / mean_K).sum()
    samples_K = np.array([own.samples for own in counted_K])
    statistic, degrees = _test_counts(samples_K, n_samples * p_K)
    delta_KK = np.eye(len(p_K)) - wanted_K[:, None]  # column d: unit vector d minus wanted_K
    variance_K = (delta_KK**2 * (p_K * square_K)).sum(axis=1)
    std_K = np.sqrt(variance_K / n_samples) / (n_tokens / n_samples)
    rows = [
        Delivered(domain.name, wanted, own.tokens / n_tokens, std, own.samples)
        for domain, wanted, own, std in zip(
            contents.domains, wanted_K.tolist(), counted_K, std_K.tolist(), strict=True
        )
    ]
    rows.sort(key=lambda row: (-row.wanted, row.domain))
    p_value = float(chi2.sf(statistic, degrees)) if degrees else 1.0
    others = [] if fixed_length else _find_other_lengths(counted_K, mean_K, square_K)
    names = tuple(contents.domains[k].name for k in others)
    return CheckResult(tuple(rows), n_samples, statistic, degrees, p_value, names)


def find_wanted(contents: Contents) -> NDArray[np.float64]:
    """Return the share of tokens that a loader should deliver, per domain.

    In a mixed export these are the shares of the tokens that were written. They differ slightly
    from the mixture: documents are not cut, a validation split is removed, and the export may count
    end-of-text tokens or use another tokenizer.
    """
    column = "weight" if contents.kind == "recipe" else "tokens"
    values_K = np.array([getattr(domain, column) for domain in contents.domains], np.float64)
    return np.asarray(values_K / values_K.sum())


def _sum_samples(contents: Contents, counted: Mapping[str, Counted]) -> tuple[int, int]:
    """Return the number of samples and of tokens of all domains."""
    unknown = sorted(set(counted) - {domain.name for domain in contents.domains})
    n_tokens = sum(own.tokens for own in counted.values())
    if unknown or n_tokens == 0:
        names = ", ".join(unknown)
        found = f"domains that the export does not have: {names}" if unknown else "no samples"
        raise InputError(f"{contents.folder}: the loader returned {found}; export again")
    n_samples = sum(own.samples for own in counted.values())
    if n_samples < LEAST_SAMPLES:
        raise InputError(
            f"{contents.folder}: the loader returned only {n_samples} samples, and a check needs "
            f"{LEAST_SAMPLES}; raise --samples, export more documents or, in formats that store "
            "tokens, lower export.sequence_length"
        )
    return n_samples, n_tokens


def _test_counts(
    samples_K: NDArray[np.int64], expected_K: NDArray[np.float64]
) -> tuple[float, int]:
    """Return Pearson's statistic and its degrees of freedom.

    The domains with the fewest expected samples are tested as one group, which has at least
    LEAST_EXPECTED expected samples.
    """
    order_K = np.argsort(expected_K, kind="stable")
    sums_K = np.cumsum(expected_K[order_K])
    n_grouped = min(int(np.searchsorted(sums_K, LEAST_EXPECTED)) + 1, len(order_K))
    starts = [0, *range(n_grouped, len(order_K))]
    expected_G = np.add.reduceat(expected_K[order_K], starts)
    found_G = np.add.reduceat(samples_K[order_K], starts)
    return float((np.square(found_G - expected_G) / expected_G).sum()), len(starts) - 1


def _find_other_lengths(
    counted_K: Sequence[Counted], mean_K: NDArray[np.float64], square_K: NDArray[np.float64]
) -> list[int]:
    """Return the indices of domains whose samples have another mean length than the documents."""
    found = []
    for k, own in enumerate(counted_K):
        if own.samples * mean_K[k] ** 2 / square_K[k] >= LEAST_EFFECTIVE:
            # The second moment replaces the variance: it is not smaller, and never 0.
            std = np.sqrt(square_K[k] / own.samples)
            if abs(own.tokens / own.samples - mean_K[k]) > LENGTH_STDS * std:
                found.append(k)
    return found


def format_result(result: CheckResult, source: str) -> str:
    """Format a result for the terminal; `source` says who returned the samples."""
    lines = [
        f"{result.samples:,} samples of {source}:",
        f"{'domain':<40} {'wanted':>9} {'delivered':>9} {'std':>8} {'samples':>9}",
    ]
    lines += [
        f"{row.domain:<40} {row.wanted:>9.4f} {row.delivered:>9.4f} {row.std:>8.4f} "
        f"{row.samples:>9,}"
        for row in result.domains
    ]
    verdict = "the samples do NOT match"
    if result.p_value >= REJECTED_BELOW:
        verdict = f"the {'samples' if result.arrived else 'numbers of samples'} match the mixture"
    lines.append(
        f"chi-square {result.statistic:.2f}, {result.degrees} degrees of freedom, "
        f"p = {result.p_value:.3g}: {verdict}"
    )
    if result.other_lengths:
        lines.append(
            f"samples of {', '.join(result.other_lengths)} have other lengths than the documents: "
            "they do NOT match"
        )
    return "\n".join(lines)


def format_written(contents: Contents, n_samples: int, source: str) -> str:
    """Format the shares of tokens that were written to a mixed export.

    A sequence contains several domains, so samples do not show the shares. `find_wanted` says why
    the written shares differ from the mixture.
    """
    lines = [
        f"{n_samples:,} samples of {source}. A sequence contains several domains, so the samples",
        "are not compared with the mixture. Shares of the tokens that were written:",
        f"{'domain':<40} {'mixture':>9} {'written':>9}",
    ]
    rows = zip(contents.domains, find_wanted(contents).tolist(), strict=True)
    lines += [
        f"{domain.name:<40} {domain.weight:>9.4f} {written:>9.4f}"
        for domain, written in sorted(rows, key=lambda row: (-row[0].weight, row[0].name))
    ]
    return "\n".join(lines)
