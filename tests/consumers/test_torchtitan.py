"""torchtitan reads an export with the weights of the mixture; its weights count tokens."""

import json

import pytest
from text_export import WEIGHTS, make_export

from climb.export.formats.torchtitan import Torchtitan

READ_TEXT = """
sys.path.insert(0, sys.argv[1])
from climb_data import make_dataloader
from torchtitan.hf_datasets.text_datasets import InterleavedHuggingFaceTextDataLoader

class Characters:
    def encode(self, text, add_bos, add_eos):
        return [0] * add_bos + [ord(c) for c in text] + [0] * add_eos

config = make_dataloader()
assert [source.weight for source in config.sources] == [0.3, 0.5, 0.2]
loader = InterleavedHuggingFaceTextDataLoader(
    config, dp_world_size=1, dp_rank=0, tokenizer=Characters(), seq_len=32, local_batch_size=2
)
inputs, labels = next(iter(loader))
print(json.dumps([list(labels.shape), "".join(map(chr, inputs["input"][0].tolist()))]))
"""

COMPARE = """
from climb.export.index import read_export

folder = Path(sys.argv[1])
export = read_export(folder)
form, length = export.load_format(), export.contents.sequence_length

def list_sequences(samples):
    sequences, counts = [], collections.Counter()
    for sample in samples:
        counts[sample.domain] += sample.tokens
        if counts.total() == length:
            sequences.append(counts)
            counts = collections.Counter()
        if len(sequences) == 300:
            return sequences

own = list_sequences(form.read_samples(folder, export.contents))
print(json.dumps([own, list_sequences(form.read_by_rule(folder, export.contents))]))
"""


@pytest.mark.parametrize(("kind", "count"), [("recipe", 20_000), ("mixed", 25_000)])
def test_the_shares_of_tokens_are_those_of_the_mixture(tmp_path, read_shares, kind, count):
    contents = make_export(Torchtitan(), tmp_path, kind)
    shares = read_shares("torchtitan", Torchtitan(), contents, count=count)
    assert shares == pytest.approx(WEIGHTS, abs=0.01)


def test_a_document_has_as_many_tokens_as_by_rule(tmp_path, run_consumer):
    """The loader shifts inputs and targets within a document: with its end it has n_tokens."""
    make_export(Torchtitan(), tmp_path, "mixed")
    output = run_consumer("torchtitan", COMPARE, str(tmp_path))
    own, by_rule = json.loads(output.splitlines()[-1])
    assert own == by_rule


def test_a_wrong_weight_in_the_module_is_seen(tmp_path, read_shares):
    contents = make_export(Torchtitan(), tmp_path, "recipe")
    path = tmp_path / "climb_data.py"
    path.write_text(path.read_text().replace('law": 0.2', 'law": 2.0'))
    shares = read_shares("torchtitan", Torchtitan(), contents, count=2_000)
    assert shares["law"] == pytest.approx(2.0 / 2.8, abs=0.05)


def test_the_loader_reads_text_with_the_configuration_of_the_module(tmp_path, run_consumer):
    make_export(Torchtitan(), tmp_path, "recipe")
    output = run_consumer("torchtitan", READ_TEXT, str(tmp_path))
    shape, text = json.loads(output.splitlines()[-1])
    assert shape == [2, 32]
    assert " w w w" in text
