"""The feasible set of mixtures: constraints, bounds, conflicts, projection, sampling."""

from climb.mixture.bounds import DomainBounds
from climb.mixture.constraints import Constraint, Constraints
from climb.mixture.space import FeasibleSet
from climb.mixture.weights import (
    SAME_DECIMALS,
    apportion,
    is_same_mixture,
    weights_to_array,
    weights_to_dict,
)

__all__ = [
    "SAME_DECIMALS",
    "Constraint",
    "Constraints",
    "DomainBounds",
    "FeasibleSet",
    "apportion",
    "is_same_mixture",
    "weights_to_array",
    "weights_to_dict",
]
