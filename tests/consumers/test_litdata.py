"""LitData's own loader reads an export: the right tokens, with the weights of the mixture."""

import json

import pytest
from token_export import WEIGHTS, make_documents, measure_shares, write_export, write_shard

from climb.export import Tokenization
from climb.export.formats.litdata import LitData

WRITE = """
import numpy as np
from litdata.streaming.item_loader import TokensLoader
from litdata.streaming.writer import BinaryWriter
folder, dtype, documents = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
writer = BinaryWriter(folder, chunk_bytes=LIMIT, item_loader=TokensLoader(block_size=8))
for index, ids in enumerate(documents):
    writer[index] = np.array(ids, dtype=dtype)
writer.done()
writer.merge()
""".replace("LIMIT", str(LitData().shard_bytes))

TRAIN = """
import math, torch
from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming.item_loader import TokensLoader
arguments = json.loads(Path(sys.argv[1], "combined.json").read_text())
datasets = [
    StreamingDataset(
        str(Path(sys.argv[1], d["input_dir"])),
        item_loader=TokensLoader(block_size=arguments["block_size"]),
        shuffle=arguments["shuffle"],
        seed=arguments["seed"],
    )
    for d in arguments["datasets"]
]
combined = CombinedStreamingDataset(
    datasets,
    seed=arguments["seed"],
    weights=[d["weight"] for d in arguments["datasets"]],
    iterate_over_all=arguments["iterate_over_all"],
)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Embedding(1000, 32), torch.nn.Linear(32, 1000))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
losses, ids = [], []
for step, batch in zip(range(200), StreamingDataLoader(combined, batch_size=8)):
    batch = batch.long()
    ids += batch.flatten().tolist()
    logits = model(batch[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(json.dumps([losses, collections.Counter(i // 100 for i in ids)]))
"""

READ_BATCHES = """
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.item_loader import TokensLoader
dataset = StreamingDataset(sys.argv[1], item_loader=TokensLoader(block_size=8))
blocks = [row for batch in StreamingDataLoader(dataset, batch_size=2) for row in batch.long()]
print(json.dumps([block.tolist() for block in blocks]))
"""


def test_the_loader_draws_as_the_rule_with_the_weights_of_the_mixture(tmp_path, read_shares):
    contents = write_export(LitData(), tmp_path, tokens=60_000)
    before = sorted(tmp_path.rglob("*"))
    shares = read_shares("litdata", LitData(), contents, count=4000)
    assert shares == measure_shares(LitData().read_by_rule(tmp_path, contents), count=4000)
    assert shares == pytest.approx(WEIGHTS, abs=0.025)  # three standard deviations of 4000 draws
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mixed_export_is_one_dataset(tmp_path, read_shares):
    contents = write_export(LitData(), tmp_path, kind="mixed")
    assert read_shares("litdata", LitData(), contents, count=300) == {"mixed": 1.0}


def test_a_wrong_weight_in_the_arguments_is_seen(tmp_path, read_shares):
    contents = write_export(LitData(), tmp_path, tokens=20_000)
    path = tmp_path / "combined.json"
    path.write_text(path.read_text().replace('"weight": 0.5', '"weight": 3.0'))
    shares = read_shares("litdata", LitData(), contents, count=500)
    assert shares["long books"] == pytest.approx(6 / 7, abs=0.05)


@pytest.mark.parametrize("vocab_size", [1000, 100_000])
def test_a_chunk_and_its_index_are_those_of_litdata_itself(tmp_path, run_consumer, rng, vocab_size):
    tokenization = Tokenization("test", vocab_size, vocab_size - 1)
    documents = make_documents(rng, 50, 20, tokenization)
    (file,) = write_shard(LitData(), tmp_path / "ours", "part-00000", documents, tokenization)
    folder, ids = tmp_path / "theirs", [ids.tolist() for ids in documents]
    run_consumer("litdata", WRITE, str(folder), tokenization.dtype, json.dumps(ids))
    assert (tmp_path / "ours" / file).read_bytes() == (folder / "chunk-0-0.bin").read_bytes()


def test_an_index_has_the_values_of_litdata_itself(tmp_path, run_consumer, rng):
    write_export(LitData(), tmp_path / "export")
    ours = json.loads((tmp_path / "export/validation/domain=notes/index.json").read_text())
    documents = [[1, 2, 999], [5, 999]]
    run_consumer("litdata", WRITE, str(tmp_path / "theirs"), "uint16", json.dumps(documents))
    theirs = json.loads((tmp_path / "theirs/index.json").read_text())
    assert ours["config"].items() <= theirs["config"].items()
    assert ours["chunks"][0].keys() == theirs["chunks"][0].keys()


def test_batches_have_the_tokens_of_the_documents(tmp_path, run_consumer):
    contents = write_export(LitData(), tmp_path)
    folder = tmp_path / "validation/domain=notes"
    output = run_consumer("litdata", READ_BATCHES, str(folder))
    blocks = json.loads(output.splitlines()[-1])
    n_tokens = sum(shard.tokens for shard in contents.list_shards("validation", "notes"))
    ids = (folder / "part-00000.bin").read_bytes()[-2 * n_tokens :]
    read = [int.from_bytes(ids[i : i + 2], "little") for i in range(0, len(ids), 2)]
    assert [token for block in blocks for token in block] == read[: n_tokens // 8 * 8]


def test_a_model_trained_for_200_steps_reads_the_mixture_and_learns(tmp_path, run_consumer):
    """Each domain has ids of its own: the model learns them, and they tell the domains apart."""
    ids = {name: (100 * k, 100 * k + 20) for k, name in enumerate(WEIGHTS)}
    write_export(LitData(), tmp_path, tokens=120_000, ids=ids)
    output = run_consumer("litdata", TRAIN, str(tmp_path))
    losses, counts = json.loads(output.splitlines()[-1])
    assert len(losses) == 200
    assert losses[0] == pytest.approx(6.9, abs=0.3)  # ln 1000
    assert sum(losses[-10:]) / 10 < 3.5  # ln 20 is 3.0; ends of texts add to it
    total = sum(n for group, n in counts.items() if group != "9")
    shares = {name: counts[str(k)] / total for k, name in enumerate(WEIGHTS)}
    assert shares == pytest.approx(WEIGHTS, abs=0.04)  # three standard deviations of 1,600 blocks
