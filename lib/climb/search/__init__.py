"""What a search knows, what it trains next, and what it answers."""

from climb.search.answer import Recommendation, recommend
from climb.search.compare import Gain, compare
from climb.search.rounds import anchors, propose
from climb.search.searcher import Problem, Searcher
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

__all__ = [
    "Gain",
    "Problem",
    "Recommendation",
    "Searcher",
    "Surrogate",
    "Trials",
    "anchors",
    "compare",
    "propose",
    "recommend",
]
