"""NeMo Automodel's own loader reads an export with the weights of the mixture."""

import pytest
from token_export import WEIGHTS, write_export

from climb.export.formats.automodel import Automodel

READ_VALIDATION = """
import yaml
from climb.export.formats.megatron import StubTokenizer, open_cache
from nemo_automodel.components.datasets.loader import DatasetBuildSchedule, make_dataset_config
section = yaml.safe_load(Path(sys.argv[1], "automodel.yaml").read_text())["validation_dataset"]
with open_cache() as cache:
    config = make_dataset_config(section.pop("_target_"), section | {"index_mapping_dir": cache})
    schedule = DatasetBuildSchedule(1, 1, 1000, 1)
    dataset = config.build(tokenizer=StubTokenizer(1000, 999), training_schedule=schedule)
    print(json.dumps(collections.Counter(dataset.dataset_index.tolist())))
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = write_export(Automodel(), tmp_path, kind=kind)
    before = sorted(tmp_path.rglob("*"))
    expected = WEIGHTS if kind == "recipe" else {"mixed": 1.0}
    shares = read_shares("automodel", Automodel(), contents)
    assert shares == pytest.approx(expected, abs=0.001)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_wrong_weight_in_the_section_is_seen(tmp_path, read_shares):
    weights = {"long books": 0.5, "notes": 0.25, "web/news": 0.25}
    contents = write_export(Automodel(), tmp_path, weights=weights)
    path = tmp_path / "automodel.yaml"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "books/part-00000" in line)
    lines[at - 1] = "    - '4.0'"
    path.write_text("\n".join(lines))
    shares = read_shares("automodel", Automodel(), contents, count=500)
    assert shares["long books"] > 0.8


def test_the_validation_split_is_built_with_the_weights_of_the_mixture(tmp_path, run_consumer):
    write_export(Automodel(), tmp_path)
    output = run_consumer("automodel", READ_VALIDATION, str(tmp_path))
    assert output.splitlines()[-1] == '{"0": 500, "1": 300, "2": 200}'
