"""OLMo-core's own loader reads an export: the right tokens, with the weights of the mixture."""

import json

import numpy as np
import pytest
from token_export import WEIGHTS, make_documents, write_export, write_shard

from climb.export import Tokenization
from climb.export.formats.olmo_core import OlmoCore

READ_IDS = """
import numpy as np
from olmo_core.data.utils import load_array_slice_into_tensor
ids = load_array_slice_into_tensor(sys.argv[1], 0, int(sys.argv[2]), getattr(np, sys.argv[3]))
print(json.dumps(ids.tolist()))
"""


@pytest.mark.parametrize("kind", ["recipe", "mixed"])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind):
    contents = write_export(OlmoCore(), tmp_path, kind=kind, epochs=40.0)
    expected = WEIGHTS if kind == "recipe" else {"mixed": 1.0}
    shares = read_shares("olmo_core", OlmoCore(), contents, count=None)
    assert shares == pytest.approx(expected, abs=0.01)


def test_a_wrong_weight_in_the_list_is_seen(tmp_path, read_shares):
    contents = write_export(OlmoCore(), tmp_path, target_tokens=20_000)
    path = tmp_path / "source_mixture.yaml"
    text = path.read_text().replace("ratio: 0.5", "ratio: 0.2")
    path.write_text(text.replace("ratio: 0.3", "ratio: 0.6"))
    shares = read_shares("olmo_core", OlmoCore(), contents, count=None)
    assert shares == pytest.approx({"long books": 0.2, "notes": 0.6, "web/news": 0.2}, abs=0.01)


def test_a_domain_at_its_limit_of_epochs_has_enough_tokens(tmp_path, read_shares):
    contents = write_export(OlmoCore(), tmp_path, target_tokens=20_000, max_epochs=1.0)
    shares = read_shares("olmo_core", OlmoCore(), contents, count=None)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


@pytest.mark.parametrize("vocab_size", [1000, 1 << 16, 100_000])
def test_a_file_has_its_tokens(tmp_path, run_consumer, rng, vocab_size):
    tokenization = Tokenization("test", vocab_size, vocab_size - 1)
    documents = make_documents(rng, 50, 20, tokenization)
    (file,) = write_shard(OlmoCore(), tmp_path, "train/part-00000", documents, tokenization)
    ids = np.concatenate(documents)
    arguments = [str(tmp_path / file), str(len(ids)), tokenization.dtype]
    output = run_consumer("olmo_core", READ_IDS, *arguments)
    assert json.loads(output.splitlines()[-1]) == ids.tolist()
