"""torchtitan reads an export with the weights of the mixture; its weights count tokens."""

import pytest
from text_export import WEIGHTS, make_export

from climb.export.formats.torchtitan import Torchtitan

CONFIGURE = """
sys.path.insert(0, sys.argv[1])
from climb_data import make_dataloader
from torchtitan.models.llama3.config_registry import llama3_debugmodel
config = llama3_debugmodel()
config.dataloader = make_dataloader()
print(json.dumps([source.weight for source in config.dataloader.sources]))
"""


@pytest.mark.parametrize(("kind", "count"), [("recipe", 20_000), ("mixed", 25_000)])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind, count):
    contents = make_export(Torchtitan(), tmp_path, kind)
    shares = read_shares("torchtitan", Torchtitan(), contents, count=count)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_a_wrong_weight_in_the_module_is_seen(tmp_path, read_shares):
    contents = make_export(Torchtitan(), tmp_path, "recipe")
    path = tmp_path / "climb_data.py"
    path.write_text(path.read_text().replace('law": 0.2', 'law": 2.0'))
    shares = read_shares("torchtitan", Torchtitan(), contents, count=2_000)
    assert shares["law"] == pytest.approx(2.0 / 2.8, abs=0.05)


def test_the_module_fits_into_a_configuration_of_torchtitan(tmp_path, run_consumer):
    make_export(Torchtitan(), tmp_path, "recipe")
    output = run_consumer("torchtitan", CONFIGURE, str(tmp_path))
    assert output.splitlines()[-1] == "[0.3, 0.5, 0.2]"
