"""Searchers that regret.py compares, with their rounds and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass

LIGHTGBM = {"use": "climb.predictor.lightgbm:LightGBMPredictor", "members": 2}
CLIMB = LIGHTGBM | {"patience_within_held": False}
REGMIX = CLIMB | {"depth": -1, "leaf_rows": 20, "l1": 0.0, "l2": 0.0}
REGMIX |= {"held_share": 0.128, "patience": 3}
"""RegMix's published settings, see `climb.predictor.lightgbm`; `members` is for the std only."""

LOG_LINEAR = {"use": "climb.predictor.loglinear:LogLinearPredictor"}


@dataclass(frozen=True)
class Entrant:
    """A row of the table: a searcher, the trials of each round, and replicates of each baseline."""

    name: str
    rounds: tuple[int, ...]
    replicates: int = 0
    settings: tuple[str, ...] = ()

    @property
    def n_trials(self) -> int:
        """Number of all trials, with the replicates of two baselines."""
        return sum(self.rounds) + 2 * self.replicates


def define_peer(
    name: str, cls: str, rounds: tuple[int, ...], predictor: dict[str, object] | None = None
) -> Entrant:
    """Define an entrant with a published searcher."""
    settings = [
        f"search.searcher={{use: climb.search.searchers.published:{cls}}}",
        "search.candidates=100000",
    ]
    if predictor:
        settings.append(f"search.predictor={json.dumps(predictor)}")
    return Entrant(name, rounds, 0, tuple(settings))


OURS, PEER, OLMIX = "climb (default)", "RegMix", "Olmix"
PEER_TRIALS = {"blend": 112, "trees": 112, "olmix": 128}
REGMIX_ENTRANTS = (
    define_peer("natural", "NaturalSearcher", (4,)),
    define_peer("uniform", "UniformSearcher", (4,)),
    define_peer("best single domain", "SingleDomainSearcher", (17,)),
    define_peer("best of random", "RandomSearcher", (112,)),
    define_peer(PEER, "RegMixSearcher", (112,), REGMIX),
    define_peer(PEER, "RegMixSearcher", (64,), REGMIX),
    define_peer("CLIMB as the paper says", "ClimbSearcher", (64, 32, 16), CLIMB),
    define_peer("NVIDIA's recipe", "NvidiaSearcher", (64, 32, 16), LIGHTGBM),
    Entrant(OURS, (90, 16), 3),
    Entrant("climb, one round", (106,), 3),
    Entrant("climb, CLIMB's rounds", (58, 32, 16), 3),
    Entrant(OURS, (50, 8), 3),
    Entrant(OURS, (19, 3), 3),
)
OLMIX_ENTRANTS = (
    define_peer("natural", "NaturalSearcher", (4,)),
    define_peer("uniform", "UniformSearcher", (4,)),
    define_peer("best of random", "RandomSearcher", (128,)),
    define_peer(PEER, "RegMixSearcher", (128,), REGMIX),
    define_peer(OLMIX, "OlmixSearcher", (128,), LOG_LINEAR),
    define_peer("CLIMB as the paper says", "ClimbSearcher", (73, 37, 18), CLIMB),
    Entrant(OURS, (106, 16), 3),
)
ENTRANTS = {"blend": REGMIX_ENTRANTS, "trees": REGMIX_ENTRANTS, "olmix": OLMIX_ENTRANTS}
