"""What `climb recommend` prints about its verdict."""

import dataclasses

import pytest
from small_search import small_search

from climb.runs.advice import Notes, describe_recommendation

SEARCH = small_search()
SPACE = SEARCH.world.space
NOTES = Notes("mean(*):min", (), ("best.csv",))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.03, "Verdict: gain."),
        (-0.01, 0.03, "Verdict: no gain found. The interval of the gain over natural contains 0"),
        (-0.03, -0.01, "Verdict: no gain found. The recommended mixture is worse than natural"),
    ],
)
def test_the_verdict_tells_a_gain_chance_and_a_loss_apart(low, high, said):
    name = SEARCH.result.baselines[0]
    gain = dataclasses.replace(SEARCH.result.gains[name], mean=(low + high) / 2, low=low, high=high)
    result = SEARCH.result.model_copy(update={"measured_gains": {name: gain}})
    assert said in describe_recommendation(result, SPACE, NOTES)
