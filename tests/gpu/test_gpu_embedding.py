"""An embedder on a GPU: close to the same model on a CPU, in any batches, within the memory.

The tests that do not compare devices also run on the CPU, so that their code is checked without a
GPU.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import WIDTH, build_encoder

from climb.embed.batches import Batching
from climb.embed.device import MAX_BATCH_TOKENS, launch_or_halve
from climb.embed.sentence import SentenceEmbedder
from climb.embed.transformer import TokenModel
from climb.testing.contracts_text import TEXTS, check_embedder

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DEVICES = ["cpu", pytest.param("cuda:0", marks=NEEDS_GPU)]
MANY = [text[start:] for start in range(60) for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(build_encoder(tmp_path_factory.mktemp("encoder")))


def open_embedder(folder, **changes):
    fields = {"dim": WIDTH, "max_tokens": 64, "precision": "float32"}
    return SentenceEmbedder(model=folder, **(fields | changes))


@pytest.mark.parametrize("device", DEVICES)
def test_a_transformer_satisfies_the_contract_on_token_ids(folder, device):
    check_embedder(open_embedder(folder), device)
    assert isinstance(open_embedder(folder).load(device).model, TokenModel)


@pytest.mark.parametrize("device", DEVICES)
def test_vectors_are_those_of_a_cpu_with_and_without_padding(folder, device):
    expected = open_embedder(folder).load("cpu")(MANY)
    embed = open_embedder(folder).load(device)
    for batching in (embed.batching, Batching(512, multiple=16), Batching(2048, exact=True)):
        found = np.concatenate(list(replace(embed, batching=batching).stream([MANY[:9], MANY[9:]])))
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_vectors_in_half_precision_are_close_to_those_in_float32(folder, device, precision):
    expected = open_embedder(folder).load("cpu")(MANY)
    found = open_embedder(folder, precision=precision).load(device)(MANY)
    assert (expected * found).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=NEEDS_GPU)])
def test_compiled_layers_give_the_same_vectors(folder, device):
    expected = open_embedder(folder).load("cpu")(MANY)
    found = open_embedder(folder, compile=True).load(device)(MANY)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("device", [pytest.param("cuda:0", marks=NEEDS_GPU)])
def test_the_budget_of_a_small_model_is_the_largest_one(folder, device):
    assert open_embedder(folder).load(device).batching == Batching(MAX_BATCH_TOKENS, multiple=16)


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_that_does_not_fit_the_memory_is_halved_on_the_device(folder, device):
    embed = open_embedder(folder).load(device)
    n_bytes = 2**60 if device == "cpu" else 2 * torch.cuda.get_device_properties(0).total_memory
    encoded = embed.model.encode(TEXTS[:4])
    sizes = []

    def launch(part):
        sizes.append(len(part))
        if len(part) > 1:
            try:
                torch.empty(n_bytes, dtype=torch.uint8, device=device)
            except RuntimeError as error:  # a CPU raises its own error
                raise torch.OutOfMemoryError(str(error)) from error
        return embed.model.launch(part, 64)

    np.testing.assert_allclose(launch_or_halve(launch, encoded)(), embed(TEXTS[:4]), atol=1e-5)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_runs_in_miniature_on_the_cpu(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": MANY}), tmp_path / "documents.parquet")
    script = ROOT / "benchmarks" / "gpu_embedding.py"
    options = ("--device", "cpu", "--quick", "--repeats", "1")
    files = ("--documents", tmp_path / "documents.parquet", "--output", tmp_path / "found.json")
    done = subprocess.run(
        [sys.executable, script, *options, *files],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    failed = {name: part for name, part in found.items() if {"failed", "skipped"} & set(part)}
    assert not failed
    for name in ("minilm", "stella"):
        part = found[f"{name}: against encode"]
        assert part["ratio"]["median"] > 0.0
        assert part["forward"] == "TokenModel"
        assert found[f"{name}: cosines"]["least cosine"] > 0.999
    assert "| minilm: against encode | forward TokenModel" in done.stdout
