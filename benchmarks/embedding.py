"""Embedding through Spark against `encode` of the same model in one process, on the same texts.

    python benchmarks/embedding.py [minilm] [minilm-bfloat16] [static]

Bars for the transformer: 1.1 times the texts/s of `encode` in float32. In bfloat16, if the CPU
supports it: 2.0 times, with cosines of at least 0.999. `encode` of sentence-transformers runs in
float32 with one thread per core and the fastest of three batch sizes. No library embeds with the
static table, so its peer is the same embedder in one process. The time to load models is not
measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession
from section import Bar, Section, Table, run_section
from shared import MINILM, sample_corpora

from climb.config import build, load
from climb.embed import Embedder
from climb.files import resolve
from climb.spark.corpus.embed import embed_documents
from climb.spark.session import start_session

HALF = "minilm-bfloat16"
BARS = {"minilm": 1.1, HALF: 2.0}
MIN_COSINE = 0.999
PEER_BATCHES = (8, 16, 32)
REPEATS, QUICK_REPEATS = 3, 1
N_TEXTS = {"minilm": 900, HALF: 900, "static": 3_000}
"""With fewer texts, the result would depend on the sizes of the tasks, which a hash determines."""

QUICK_N_TEXTS = {"minilm": 27, HALF: 27, "static": 270}


@dataclass(frozen=True)
class Comparison:
    """Medians over pairs of runs; a ratio is speed through Spark / speed in one process."""

    n_texts: int
    seconds_one_process: float
    seconds_spark: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    def format_row(self, name: str) -> tuple[str, ...]:
        """Cells of the table."""
        return (
            name,
            f"{self.n_texts:,}",
            f"{self.n_texts / self.seconds_one_process:,.1f}",
            f"{self.n_texts / self.seconds_spark:,.1f}",
            f"{self.ratio:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})",
        )


def load_encode(texts: Sequence[str]) -> Callable[[Sequence[str]], object]:
    """Load `encode` of sentence-transformers for MiniLM, with the fastest batch size."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(os.cpu_count() or 1)  # an environment variable may set fewer
    model = SentenceTransformer(str(resolve(MINILM["model"])), device="cpu", local_files_only=True)
    model.max_seq_length = MINILM["max_tokens"]

    def encode(texts: Sequence[str], size: int) -> object:
        return model.encode(list(texts), batch_size=size, normalize_embeddings=True)

    encode(texts[:16], 16)
    seconds = {
        size: min(measure_seconds(lambda size=size: encode(texts, size)) for _ in range(2))
        for size in PEER_BATCHES
    }
    best = min(seconds, key=seconds.__getitem__)
    print(f"encode: seconds by batch size {seconds}; {best} is used", flush=True)
    return lambda texts: encode(texts, best)


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())


def measure_cosine(texts: Sequence[str]) -> float:
    """Smallest cosine of bfloat16 vectors to float32 vectors."""
    exact_ND, half_ND = (
        build(MINILM | {"precision": precision}, Embedder).load("cpu")(texts)
        for precision in ("float32", "bfloat16")
    )
    return float((exact_ND * half_ND).sum(axis=1).min())


def measure_seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(session: SparkSession, name: str, n_texts: int, repeats: int) -> Comparison:
    """Time both sides alternately, so that other load on the machine affects both."""
    texts = sample_corpora(-(-n_texts // 27))[0][:n_texts]
    spec = dict(load().embed.embedder) if name == "static" else MINILM
    embedder = build(spec | ({"precision": "bfloat16"} if name == HALF else {}), Embedder)
    encode = embedder.load("cpu") if name == "static" else load_encode(texts[: n_texts // 9])
    slots = session.sparkContext.defaultParallelism
    rows = [(str(i), text) for i, text in enumerate(texts)]
    frame = session.createDataFrame(rows, "doc_id STRING, text STRING")
    frame = frame.repartition(slots, "doc_id").cache()
    frame.count()

    def embed_through_spark() -> None:
        embed_documents(frame, embedder).write.format("noop").mode("overwrite").save()

    encode(texts[:16])
    embed_through_spark()  # every worker loads its model
    pairs = [
        (measure_seconds(lambda: encode(texts)), measure_seconds(embed_through_spark))
        for _ in range(repeats)
    ]
    ratios = tuple(single / spark for single, spark in pairs)
    single, spark = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Comparison(n_texts, single, spark, ratios)


def measure(args: argparse.Namespace) -> Section:
    sizes = QUICK_N_TEXTS if args.quick else N_TEXTS
    repeats = QUICK_REPEATS if args.quick else REPEATS
    names = [name for name in args.embedder or sizes if name != HALF or has_bfloat16()]
    session = start_session(load().spark)
    compared = {name: compare(session, name, sizes[name], repeats) for name in names}
    session.stop()
    columns = ("embedder", "texts", "one process, texts/s", "Spark, texts/s", "ratio (range)")
    bars = [
        Bar(f"{name}, Spark / one process", compared[name].ratio, at_least=BARS[name], form=".2f")
        for name in names
        if name in BARS
    ]
    if HALF in names:
        cosine = measure_cosine(sample_corpora(2)[0])
        bars.append(Bar(f"{HALF}, least cosine", cosine, at_least=MIN_COSINE, form=".5f"))
    return Section(
        "embedding",
        "Embedding: through Spark against the same model's encode in one process",
        f"{repeats} interleaved pairs of runs; the bars are for the transformer.",
        (Table(columns, tuple(each.format_row(name) for name, each in compared.items())),),
        tuple(bars),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "embedder", nargs="*", help=f"of {', '.join(N_TEXTS)}; all if none is named"
    )
    run_section(measure, parser)
