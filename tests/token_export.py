"""A small export with tokens, written without Spark: three domains with unlike documents."""

import itertools
from collections import defaultdict

import numpy as np
import pyarrow as pa
from shard_files import copy_shard
from text_export import name_format

from climb.export import Contents, ExportedDomain, Shard, Tokenization
from climb.export.index import INDEX, render_index

WEIGHTS = {"long books": 0.5, "notes": 0.3, "web/news": 0.2}
LENGTHS = {"long books": 400, "notes": 20, "web/news": 60}
"""Tokens per document: twenty times as many in one domain as in another."""

SEQUENCE = 32
TOKENIZATION = Tokenization("test", vocab_size=1000, end_of_text_id=999)


def make_documents(rng, length, count, tokenization=TOKENIZATION, ids=None):
    """Ids of documents with about this length, each with the end of the text.

    `ids` is the range of the others; None: all.
    """
    low, high = ids or (0, tokenization.end_of_text_id)
    return [
        np.append(
            rng.integers(low, high, size=size - 1),
            tokenization.end_of_text_id,
        ).astype(tokenization.dtype)
        for size in rng.integers(length - 5, length + 6, size=count)
    ]


def write_shard(fmt, folder, name, documents, tokenization=TOKENIZATION, batch=7):
    """Write the ids of documents as one shard; return its files."""
    batches = (
        (pa.RecordBatch.from_pydict({"text": ["text"] * len(ids_N)}), ids_N)
        for start in range(0, len(documents), batch)
        for ids_N in [documents[start : start + batch]]
    )
    return copy_shard(fmt, folder, name, tokenization, batches)


def mix(parts, split):
    """Return the documents of all domains together, for each shard of a split."""
    of_split = [groups for (name, _), groups in parts.items() if name == split]
    return [list(itertools.chain(*groups)) for groups in zip(*of_split, strict=True)]


def write_export(
    fmt,
    folder,
    *,
    kind="recipe",
    weights=None,
    tokens=6000,
    target_tokens=200_000,
    epochs=3.0,
    max_epochs=None,
    tokenization=TOKENIZATION,
    ids=None,
):
    """Write an export of three domains in two training shards each; return its contents.

    The tokens of a domain in the training split are about `tokens` each, so that weights and sizes
    differ. `ids` has the range of ids of a domain; a domain that it lacks has all.
    """
    weights = WEIGHTS if weights is None else weights
    rng = np.random.default_rng(7)
    ids = ids or {}

    def make(name, count):
        return make_documents(rng, LENGTHS[name], count, tokenization, ids.get(name))

    texts = {name: make(name, max(8, tokens // LENGTHS[name])) for name in weights}
    parts = {}
    for name, documents in texts.items():
        half = len(documents) // 3
        parts["train", name] = [documents[:half], documents[half:]]
        parts["validation", name] = [make(name, 8)]
    if kind == "mixed":
        parts = {(split, None): mix(parts, split) for split in ("train", "validation")}
    shards = []
    for split, domain in sorted(parts, key=lambda key: (key[0], key[1] or "")):
        groups = parts[split, domain]
        for index, documents in enumerate(groups):
            escaped = domain and domain.replace("/", "%2F")
            name = fmt.name_shard(split, escaped, index, len(groups))
            files = write_shard(fmt, folder, name, documents, tokenization)
            n_tokens = sum(map(len, documents))
            sizes = tuple((folder / file).stat().st_size for file in files)
            shards.append(Shard(split, domain, files, sizes, len(documents), n_tokens))
    contents = Contents(
        kind=kind,
        domains=tuple(
            ExportedDomain(
                name=name,
                weight=weight,
                documents=len(texts[name]),
                tokens=sum(map(len, texts[name])),
                squared_tokens=float(sum(len(ids) ** 2 for ids in texts[name])),
                epochs=epochs,
                max_epochs=max_epochs,
            )
            for name, weight in sorted(weights.items())
        ),
        shards=tuple(shards),
        tokenization=tokenization,
        target_tokens=target_tokens,
        sequence_length=SEQUENCE,
        seed=5,
        folder=str(folder),
    )
    for path, text in fmt.describe(contents).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / INDEX).write_text(render_index(name_format(fmt), contents, {}), encoding="utf-8")
    return contents


def measure_shares(samples, count=3000):
    """Return the share of tokens of each domain in the first samples."""
    tokens = defaultdict(int)
    for sample in itertools.islice(samples, count):
        tokens[sample.domain] += sample.tokens
    total = sum(tokens.values())
    return {name: n / total for name, n in sorted(tokens.items())}
