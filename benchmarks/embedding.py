"""Embedding through Spark against the same model's own `encode` in one process, same texts.

    python benchmarks/embedding.py [minilm] [static]

Bar: a ratio of at least 1.0 for the transformer. Its peer is `encode` of its own library with that
library's defaults: a thread per core and batches of 32. The static table has no library of its own;
its peer is the same embedder in one process, which tokenises on all cores. Both sides load their
models before the clock starts.
"""

from __future__ import annotations

import argparse
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

BAR = 1.0
REPEATS, QUICK_REPEATS = 3, 1
N_TEXTS = {"minilm": 300, "static": 3_000}
QUICK_N_TEXTS = {"minilm": 27, "static": 270}


@dataclass(frozen=True)
class Comparison:
    """Medians over pairs of runs; ratios are speed through Spark over speed in one process."""

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


def load_encode() -> Callable[[Sequence[str]], object]:
    """`encode` of sentence-transformers for MiniLM, as its documentation uses it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve(MINILM["model"])), device="cpu", local_files_only=True)
    model.max_seq_length = MINILM["max_tokens"]
    return lambda texts: model.encode(list(texts), normalize_embeddings=True)


def measure_seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(session: SparkSession, name: str, n_texts: int, repeats: int) -> Comparison:
    """Time both sides in turn, so that a busy minute of the machine affects both."""
    texts = sample_corpora(-(-n_texts // 27))[0][:n_texts]
    spec = MINILM if name == "minilm" else dict(load().embed.embedder)
    embedder = build(spec, Embedder)
    encode = load_encode() if name == "minilm" else embedder.load("cpu")
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
    session = start_session(load().spark)
    compared = {
        name: compare(session, name, sizes[name], repeats) for name in args.embedder or sizes
    }
    session.stop()
    columns = ("embedder", "texts", "one process, texts/s", "Spark, texts/s", "ratio (range)")
    bars = [
        Bar("minilm, Spark / one process", compared[name].ratio, at_least=BAR, form=".2f")
        for name in compared
        if name == "minilm"
    ]
    return Section(
        "embedding",
        "Embedding: through Spark against the same model's encode in one process",
        f"{repeats} interleaved pairs of runs; the bar is for the transformer.",
        (Table(columns, tuple(each.format_row(name) for name, each in compared.items())),),
        tuple(bars),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("embedder", nargs="*", help="minilm, static; both if none is named")
    run_section(measure, parser)
