"""Embedding through Spark against the same model's own `encode` in one process, same texts.

    python benchmarks/embedding.py --documents 300 minilm
    python benchmarks/embedding.py --documents 3000 static

Bar: a ratio of at least 1.0. Models are loaded before the clock starts on both sides. The library
in one process keeps its own defaults: as many threads as the machine has cores, batches of 32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

from shared import MINILM, corpus

from climb.config import build, load
from climb.embed import Embedder
from climb.files import resolve
from climb.spark.embed import embed_documents
from climb.spark.session import start_session

REPEATS = 3


def sentence_transformers_encode() -> Callable[[Sequence[str]], object]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve(MINILM["model"])), device="cpu", local_files_only=True)
    model.max_seq_length = MINILM["max_tokens"]
    return lambda texts: model.encode(list(texts), normalize_embeddings=True)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("embedder", choices=["minilm", "static"])
    parser.add_argument("--documents", type=int, default=300)
    args = parser.parse_args()
    texts, _, _ = corpus(-(-args.documents // 27))
    texts = texts[: args.documents]
    spec = MINILM if args.embedder == "minilm" else dict(load().embed.embedder)
    embedder = build(spec, Embedder)
    encode = sentence_transformers_encode() if args.embedder == "minilm" else embedder.load("cpu")

    session = start_session(load().spark)
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
    session.stop()
    single, spark = (statistics.median(times) for times in zip(*pairs, strict=True))
    n = len(texts)
    print(
        f"| {args.embedder} | {n} texts | one process {n / single:.1f}/s | "
        f"Spark, {slots} tasks {n / spark:.1f}/s | ratio {single / spark:.2f} |"
    )


if __name__ == "__main__":
    main()
