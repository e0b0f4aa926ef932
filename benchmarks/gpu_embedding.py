"""Embedding on one GPU: this project's embedder against `encode` of sentence-transformers.

    python benchmarks/gpu_embedding.py --documents docs.parquet --output embedding.json
    python benchmarks/gpu_embedding.py --documents docs.parquet --device cpu --quick

Bars: 5.0 times the documents/s of `encode` (bfloat16, batches of 128) for the shape of MiniLM, and
1.4 times for width 1024 with 24 layers. Both sides use the same weights and device, alternately.

It needs torch, transformers, sentence-transformers, tokenizers, pyarrow, PyYAML and pydantic; no
Spark, Java or network. The weights are random; the tokenizer is trained on the documents. If a part
fails or has no time left, the script reports this and goes on. The exit status is 1 if a bar is
missed or a part fails. No part starts after 140 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import numpy as np
import torch
from random_bert import MAX_TOKENS, Shape, build_model, train_tokenizer
from section import Table, render_table

from climb.embed.batches import Wait
from climb.embed.device import MAX_BATCH_TOKENS
from climb.embed.sentence import SentenceEmbed, SentenceEmbedder

SECONDS = 140.0
"""No part starts after this time."""

REPEATS, N_CHECKED, ARROW_ROWS = 3, 32, 512
VOCABULARY, PEER_BATCH = 30_000, 128


SHAPES = {"minilm": Shape(384, 6, 12, 5.0), "stella": Shape(1024, 24, 16, 1.4)}
QUICK_SHAPES = {"minilm": Shape(32, 2, 4, 5.0), "stella": Shape(64, 3, 4, 1.4)}


class Counter:
    """A `TextModel` that counts the tokens of its batches, with and without padding."""

    def __init__(self, model: Any) -> None:
        self.model, self.width, self.max_tokens = model, model.width, model.max_tokens
        self.n_tokens = self.n_padded = self.n_batches = self.n_masked = 0

    def encode(self, texts: Sequence[str]) -> Sequence[Any]:
        """Tokenize texts."""
        return self.model.encode(texts)

    def launch(self, encoded: Sequence[Any], length: int) -> Wait:
        """Count and start a batch."""
        n_tokens = sum(map(len, encoded))
        self.n_batches += 1
        self.n_masked += n_tokens < len(encoded) * length
        self.n_tokens += n_tokens
        self.n_padded += len(encoded) * length
        return self.model.launch(encoded, length)


class Run:
    """The settings of one run of this script, its clock and its findings."""

    def __init__(self, args: argparse.Namespace, folder: Path, texts: list[str]) -> None:
        self.args, self.folder, self.texts = args, folder, texts
        self.start = time.perf_counter()
        self.found: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def measure(self, name: str, part: Callable[[], dict[str, Any]]) -> None:
        """Run one part; an error, or that there was no time, is recorded as its finding."""
        start = self.seconds
        if start > SECONDS:
            self.found[name] = {"skipped": f"{start:.0f} s had passed"}
        else:
            try:
                self.found[name] = part()
            except Exception as error:
                traceback.print_exc()
                self.found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        gc.collect()  # models of this part
        self.found[name]["seconds"] = round(self.seconds - start, 1)
        print(f"{name}: {json.dumps(self.found[name])}", flush=True)


def open_ours(model: Path, shape: Shape, device: str, **changes: Any) -> SentenceEmbed:
    """Load the embedder of this project, in bfloat16."""
    fields: dict[str, Any] = {"precision": "bfloat16", "max_tokens": MAX_TOKENS} | changes
    return SentenceEmbedder(model=str(model), dim=shape.hidden, **fields).load(device)


def open_peer(model: Path, device: str) -> Callable[[Sequence[str]], np.ndarray]:
    """Load `encode` of sentence-transformers, in bfloat16."""
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(model), device=device, local_files_only=True)
    peer.to(torch.bfloat16).max_seq_length = MAX_TOKENS
    return lambda texts: peer.encode(list(texts), batch_size=PEER_BATCH, show_progress_bar=False)


def embed_all(ours: SentenceEmbed, texts: Sequence[str]) -> np.ndarray:
    """Embed as a Spark task does: lists of one Arrow batch each."""
    lists: Iterator[Sequence[str]] = (
        texts[start : start + ARROW_ROWS] for start in range(0, len(texts), ARROW_ROWS)
    )
    return np.concatenate(list(ours.stream(lists)))


def time_rate(work: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Documents per second."""
    start = time.perf_counter()
    work(texts)
    return len(texts) / (time.perf_counter() - start)


def describe_rates(rates: Sequence[float]) -> dict[str, Any]:
    """Median and range."""
    values = {"median": statistics.median(rates), "least": min(rates), "most": max(rates)}
    return {name: round(value, 2) for name, value in values.items()}


def compare(run: Run, model: Path, shape: Shape) -> dict[str, Any]:
    """Time both sides alternately."""
    ours, peer = open_ours(model, shape, run.args.device), open_peer(model, run.args.device)
    counter = Counter(ours.model)
    counted = dataclasses.replace(ours, model=counter)
    few = run.texts[: len(run.texts) // 6]
    peer(few), embed_all(ours, few)
    pairs = []
    for _ in range(run.args.repeats):
        other = time_rate(peer, run.texts)
        pairs.append((other, time_rate(lambda t: embed_all(counted, t), run.texts)))
    ratios = [mine / other for other, mine in pairs]
    return {
        "forward": type(ours.model).__name__,
        "encode, docs/s": describe_rates([other for other, _ in pairs]),
        "ours, docs/s": describe_rates([mine for _, mine in pairs]),
        "ratio": describe_rates(ratios),
        "bar": shape.bar,
        "met": statistics.median(ratios) >= shape.bar,
        "batch_tokens": ours.batching.batch_tokens,
        "padding": round(1.0 - counter.n_tokens / counter.n_padded, 4),
        "batches with a mask": round(counter.n_masked / counter.n_batches, 3),
        "tokens a document": round(counter.n_tokens / len(run.texts) / len(pairs), 1),
    }


def measure_ours(run: Run, model: Path, shape: Shape, **changes: Any) -> dict[str, Any]:
    """Time this project's side alone, with other settings."""
    ours = open_ours(model, shape, run.args.device, **changes)
    embed_all(ours, run.texts[: len(run.texts) // 2])
    is_gpu = run.args.device != "cpu"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(run.args.device)
    rates = [time_rate(lambda t: embed_all(ours, t), run.texts) for _ in range(run.args.repeats)]
    peak = torch.cuda.max_memory_allocated(run.args.device) if is_gpu else 0
    return {"docs/s": describe_rates(rates), "peak GiB": round(peak / 2**30, 2)}


def measure_stages(run: Run, model: Path, shape: Shape) -> dict[str, Any]:
    """Time the tokenizer alone, and the device alone with tokenized texts."""
    ours = open_ours(model, shape, run.args.device)
    encoded: dict[str, Any] = {}

    def encode(texts: Sequence[str]) -> list[Any]:
        encoded.update(zip(texts, ours.model.encode(texts), strict=True))
        return [encoded[text] for text in texts]

    chunks = [run.texts[i : i + 256] for i in range(0, len(run.texts), 256)]
    rate = time_rate(lambda _: [encode(chunk) for chunk in chunks], run.texts)
    ready = Counter(ours.model)
    ready.encode = lambda texts: [encoded[text] for text in texts]  # type: ignore[method-assign]
    device_only = dataclasses.replace(ours, model=ready)
    rates = [time_rate(lambda t: embed_all(device_only, t), run.texts) for _ in range(3)]
    return {"tokenizer, docs/s": round(rate, 1), "device, docs/s": describe_rates(rates)}


def compare_vectors(run: Run, model: Path, shape: Shape) -> dict[str, Any]:
    """Cosines of bfloat16 vectors on the device to float32 vectors on the CPU.

    Vectors of a random model are similar, so cosines after subtraction of the mean are stricter.
    """
    texts = run.texts[:N_CHECKED]
    exact_ND = open_ours(model, shape, "cpu", precision="float32")(texts).astype(np.float64)
    half_ND = embed_all(open_ours(model, shape, run.args.device), texts).astype(np.float64)

    def cosines(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
        norms_N = np.linalg.norm(a_ND, axis=1) * np.linalg.norm(b_ND, axis=1)
        return (a_ND * b_ND).sum(axis=1) / norms_N

    mean_D = exact_ND.mean(axis=0)
    centred_N = cosines(exact_ND - mean_D, half_ND - mean_D)
    return {
        "least cosine": round(float(cosines(exact_ND, half_ND).min()), 6),
        "least cosine without the mean": round(float(centred_N.min()), 6),
        "median cosine without the mean": round(float(np.median(centred_N)), 6),
        "largest difference": float(np.abs(exact_ND - half_ND).max()),
    }


def list_parts(run: Run, models: dict[str, Path]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the names and functions of the parts, most important first."""
    shapes = QUICK_SHAPES if run.args.quick else SHAPES

    def bind(part: Callable[..., Any], name: str, **changes: Any) -> Callable[..., Any]:
        return lambda: part(run, models[name], shapes[name], **changes)

    for name in shapes:
        yield f"{name}: against encode", bind(compare, name)
    for name in shapes:
        yield f"{name}: alone", bind(measure_ours, name)
    yield "minilm: stages", bind(measure_stages, "minilm")
    yield "minilm: cosines", bind(compare_vectors, "minilm")
    for budget in (MAX_BATCH_TOKENS // 4, MAX_BATCH_TOKENS // 2, 2 * MAX_BATCH_TOKENS):
        changes = {"batch_tokens": budget // (64 if run.args.quick else 1)}
        yield f"minilm: batch_tokens {budget}", bind(measure_ours, "minilm", **changes)
    yield "stella: cosines", bind(compare_vectors, "stella")
    if run.args.device != "cpu":
        for name in shapes:
            yield f"{name}: compiled", bind(measure_ours, name, compile=True)


def describe(found: dict[str, Any]) -> str:
    """Format the findings of a part in one cell."""

    def cell(value: Any) -> str:
        if isinstance(value, dict):
            return f"{value['median']:,} ({value['least']:,} to {value['most']:,})"
        return f"{value:,}" if type(value) is int else str(value)

    return "; ".join(f"{name} {cell(value)}" for name, value in found.items())


def describe_machine(device: str) -> dict[str, Any]:
    """Versions and hardware."""
    import sentence_transformers
    import transformers

    return {
        "device": "CPU" if device == "cpu" else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sentence-transformers": sentence_transformers.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--documents", type=Path, required=True, help="Parquet with a column text")
    parser.add_argument("--output", type=Path, help="write the findings as JSON here")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    args = parser.parse_args()
    import pyarrow.parquet as pq

    texts = pq.read_table(args.documents, columns=["text"])["text"].to_pylist()
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(args, Path(scratch), texts[:60] if args.quick else texts)
        run.measure("machine", lambda: describe_machine(args.device))
        models: dict[str, Path] = {}

        def build() -> dict[str, Any]:
            tokenizer = train_tokenizer(run.texts[:2000], 500 if args.quick else VOCABULARY)
            for name, shape in (QUICK_SHAPES if args.quick else SHAPES).items():
                models[name] = build_model(run.folder / name, shape, tokenizer, args.device)
            return {"documents": len(run.texts), "vocabulary": len(tokenizer)}

        run.measure("build", build)
        for name, part in list_parts(run, models):
            run.measure(name, part)
            if args.output is not None:
                args.output.write_text(json.dumps(run.found, indent=1) + "\n")
    rows = tuple((name, describe(found)) for name, found in run.found.items())
    print(render_table(Table(("part", "found"), rows)), f"{run.seconds:.0f} s", sep="\n\n")
    failed = any("failed" in found or not found.get("met", True) for found in run.found.values())
    sys.exit(int(failed and not args.quick))


if __name__ == "__main__":
    main()
