"""What a search knows, what it trains next, and what it recommends."""

from climb.search.gains import Gain, compare
from climb.search.problem import Problem, Searcher, SearchState
from climb.search.recommendation import Recommendation, recommend
from climb.search.result import SearchResult
from climb.search.rounds import propose
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

__all__ = [
    "Gain",
    "Problem",
    "Recommendation",
    "SearchResult",
    "SearchState",
    "Searcher",
    "Surrogate",
    "Trials",
    "compare",
    "propose",
    "recommend",
]
