"""Levanter reads an export with the weights of the mixture; its weights count tokens."""

import pytest
from text_export import WEIGHTS, make_export

from climb.export.formats.levanter import Levanter


@pytest.mark.parametrize(("kind", "count"), [("recipe", 15_000), ("mixed", 30_000)])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind, count):
    contents = make_export(Levanter(), tmp_path, kind, n_shards=1)
    shares = read_shares("levanter", Levanter(), contents, count=count)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_a_wrong_weight_in_the_section_is_seen(tmp_path, read_shares):
    contents = make_export(Levanter(), tmp_path, "recipe")
    path = tmp_path / "data.yaml"
    path.write_text(path.read_text().replace("law: 0.2", "law: 2.0"))
    shares = read_shares("levanter", Levanter(), contents, count=2_000)
    assert shares["law"] == pytest.approx(2.0 / 2.8, abs=0.05)
