"""Whether the weights arrived: samples of a trainer's loader against the mixture.

If a loader draws documents with the probabilities p that give the wanted shares w of tokens, the
vectors x = t (e - w) of its samples have the mean 0: t are the tokens of a sample, and e is 1 at
its domain. Their covariance follows from p and from the lengths of the documents, so that

    n * mean(x)' covariance^-1 mean(x)

is distributed as chi-square with K - 1 degrees of freedom. This is a score test, as Pearson's test
is one; for samples of one length it equals Pearson's. A loader that balances its sources instead of
drawing them at random gives a smaller value.

Axis: K domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from climb.errors import InputError
from climb.export.contents import Contents, Counted, ExportedDomain

LEAST_EXPECTED = 5.0
"""Domains with fewer expected samples are tested together, as usual for a chi-square test."""

REJECTED_BELOW = 1e-3
"""Probability of a statistic at least as large, below which the weights have not arrived."""


@dataclass(frozen=True)
class Delivered:
    """One domain in the result of a check: shares of tokens."""

    domain: str
    wanted: float
    delivered: float
    std: float
    """Standard deviation of the delivered share, if the weights arrived."""

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

    @property
    def arrived(self) -> bool:
        """Whether the delivered shares are those that were wanted, up to chance."""
        return self.p_value >= REJECTED_BELOW


def compare_shares(
    contents: Contents, counted: Mapping[str, Counted], fixed_length: bool
) -> CheckResult:
    """Compare what a loader returned with the mixture.

    Args:
        contents: the wanted shares, and the lengths of the documents.
        counted: samples and tokens per domain.
        fixed_length: whether samples are sequences of one length, and not documents.

    Raises:
        InputError: there are no samples, or they are from a domain that the mixture does not have.
    """
    names = [domain.name for domain in contents.domains]
    n_samples, n_tokens = _sum_samples(contents, counted)
    wanted_K = np.array([domain.weight for domain in contents.domains])
    counted_K = [counted.get(name, Counted()) for name in names]
    length = n_tokens / n_samples if fixed_length else None
    mean_K, square_K = _find_moments(contents.domains, counted_K, length)
    p_K = wanted_K / mean_K / (wanted_K / mean_K).sum()
    tokens_K = np.array([own.tokens for own in counted_K])
    delta_KK = np.eye(len(names)) - wanted_K[:, None]  # column d is e - w of a sample of domain d
    covariance_KK = (delta_KK * (p_K * square_K)) @ delta_KK.T
    score_K = (tokens_K - wanted_K * n_tokens) / n_samples
    groups_GK = _group_small(n_samples * p_K)
    statistic, degrees = _test(groups_GK @ score_K, groups_GK @ covariance_KK @ groups_GK.T)
    statistic *= n_samples
    std_K = np.sqrt(np.diag(covariance_KK) / n_samples) / (n_tokens / n_samples)
    rows = [
        Delivered(name, wanted, own.tokens / n_tokens, std, own.samples)
        for name, wanted, own, std in zip(
            names, wanted_K.tolist(), counted_K, std_K.tolist(), strict=True
        )
    ]
    rows.sort(key=lambda row: (-row.wanted, row.domain))
    p_value = float(chi2.sf(statistic, degrees)) if degrees else 1.0
    return CheckResult(tuple(rows), n_samples, statistic, degrees, p_value)


def _sum_samples(contents: Contents, counted: Mapping[str, Counted]) -> tuple[int, int]:
    """Return samples and tokens of all domains."""
    unknown = sorted(set(counted) - {domain.name for domain in contents.domains})
    n_tokens = sum(own.tokens for own in counted.values())
    if unknown or n_tokens == 0:
        found = f"domains {', '.join(unknown)}" if unknown else "no samples"
        raise InputError(f"{contents.folder}: the loader returned {found}; export it again")
    return sum(own.samples for own in counted.values()), n_tokens


def _find_moments(
    domains: Sequence[ExportedDomain], counted_K: Sequence[Counted], length: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and mean square of the tokens of a sample, per domain.

    Samples have one length, or are documents of the export. Where the lengths of the documents are
    unknown, the samples show them.
    """
    if length is not None:
        return np.full(len(domains), length), np.full(len(domains), length**2)
    every = Counted(
        sum(own.samples for own in counted_K),
        sum(own.tokens for own in counted_K),
        sum(own.squared_tokens for own in counted_K),
    )
    moments = []
    for domain, own in zip(domains, counted_K, strict=True):
        if domain.squared_tokens:
            moments.append((domain.mean_tokens, domain.squared_tokens / domain.documents))
        else:
            seen = own if own.tokens else every
            moments.append((seen.tokens / seen.samples, seen.squared_tokens / seen.samples))
    mean_K, square_K = np.array(moments).T
    return mean_K, square_K


def _group_small(expected_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a matrix that sums the domains with few expected samples, shape (groups, K).

    The smallest domains are one group until it has enough; rarer events than that are not normally
    distributed.
    """
    order_K = np.argsort(expected_K, kind="stable")
    sums_K = np.cumsum(expected_K[order_K])
    n_grouped = int(np.searchsorted(sums_K, LEAST_EXPECTED)) + 1
    if expected_K[order_K[0]] >= LEAST_EXPECTED:
        n_grouped = 0
    rows = [np.eye(len(expected_K))[i] for i in sorted(order_K[n_grouped:])]
    if n_grouped:
        rows.append(np.isin(np.arange(len(expected_K)), order_K[:n_grouped]).astype(np.float64))
    return np.array(rows)


def _test(score_G: NDArray[np.float64], covariance_GG: NDArray[np.float64]) -> tuple[float, int]:
    """Return the statistic of one sample, and its degrees of freedom."""
    degrees = int(np.linalg.matrix_rank(covariance_GG, hermitian=True))
    inverse_GG = np.linalg.pinv(covariance_GG, hermitian=True)
    return float(score_G @ inverse_GG @ score_G), degrees


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
    verdict = "the weights arrived" if result.arrived else "the weights did NOT arrive"
    lines.append(
        f"chi-square {result.statistic:.2f}, {result.degrees} degrees of freedom, "
        f"p = {result.p_value:.3g}: {verdict}"
    )
    return "\n".join(lines)
