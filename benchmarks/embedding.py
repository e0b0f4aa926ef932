"""Embedding through Spark against the same model's own `encode` in one process, same texts.

    python benchmarks/embedding.py minilm static

Bar: a ratio of at least 1.0 for the transformer, whose library's own `encode` is the peer: it keeps
its defaults, as many threads as the machine has cores and batches of 32. The static table has no
library of its own; it is compared with itself in one process, which tokenises with all cores.
Models are loaded before the clock starts on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from pyspark.sql import SparkSession
from shared import MINILM, corpus

from climb.config import build, load
from climb.embed import Embedder
from climb.files import resolve
from climb.spark.embed import embed_documents
from climb.spark.session import start_session

REPEATS, BAR = 3, 1.0
DOCUMENTS = {"minilm": 300, "static": 3_000}


def sentence_transformers_encode() -> Callable[[Sequence[str]], object]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve(MINILM["model"])), device="cpu", local_files_only=True)
    model.max_seq_length = MINILM["max_tokens"]
    return lambda texts: model.encode(list(texts), normalize_embeddings=True)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(session: SparkSession, name: str, n_documents: int) -> float:
    """Print one line of the table; returns speed through Spark over speed in one process."""
    texts = corpus(-(-n_documents // 27))[0][:n_documents]
    spec = MINILM if name == "minilm" else dict(load().embed.embedder)
    embedder = build(spec, Embedder)
    encode = sentence_transformers_encode() if name == "minilm" else embedder.load("cpu")
    slots = session.sparkContext.defaultParallelism
    rows = [(str(i), text) for i, text in enumerate(texts)]
    frame = session.createDataFrame(rows, "doc_id STRING, text STRING")
    frame = frame.repartition(slots, "doc_id").cache()
    frame.count()

    def through_spark() -> None:
        embed_documents(frame, embedder).write.format("noop").mode("overwrite").save()

    encode(texts[:16])
    through_spark()  # every worker loads its model
    # In turns, so that a busy minute of the machine falls on both.
    pairs = [(seconds(lambda: encode(texts)), seconds(through_spark)) for _ in range(REPEATS)]
    ratios = [single / spark for single, spark in pairs]
    single, spark = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(
        f"| {name} | {n_documents:,} | {n_documents / single:,.1f} | {n_documents / spark:,.1f} | "
        f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) |",
        flush=True,
    )
    return statistics.median(ratios)


def main() -> int:
    """Measure; 1 where the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("embedder", nargs="*", help="minilm, static; both if none is named")
    chosen = parser.parse_args().embedder or list(DOCUMENTS)
    session = start_session(load().spark)
    print(f"{REPEATS} interleaved pairs; bar for the transformer: {BAR}.\n")
    print("| embedder | texts | one process, texts/s | Spark, texts/s | ratio |")
    print("|---|---|---|---|---|")
    ratios = {name: compare(session, name, DOCUMENTS[name]) for name in chosen}
    session.stop()
    return int(ratios.get("minilm", BAR) < BAR)


if __name__ == "__main__":
    sys.exit(main())
