"""Exports of text that tests make without Spark: three domains with documents of unlike lengths."""

import dataclasses
import functools
import random

import pyarrow as pa
from shard_files import copy_shard

from climb.export import Contents, ExportedDomain, Shard
from climb.export.groups import escape_name
from climb.export.index import INDEX, render_index

# Tokens per document differ 20-fold; a name needs escapes in paths, in YAML and in globs.
DOMAINS = {"law": (400, 0.2), "code: [py]/é": (20, 0.5), "chat": (60, 0.3)}
WEIGHTS = {name: weight for name, (_, weight) in DOMAINS.items()}
N_DOCUMENTS = {"law": 60, "code: [py]/é": 600, "chat": 240}


@functools.cache
def make_rows(domain, split="train", n=None):
    """Rows of a domain; a text has as many words as tokens."""
    draw = random.Random(f"{domain} {split}")
    mean = DOMAINS[domain][0]
    lengths = [draw.randint(mean // 2, mean * 3 // 2) for _ in range(n or N_DOCUMENTS[domain])]
    return [
        {"doc_id": f"{split}-{domain}-{i:04d}", "copy": 0, "domain": domain, "n_tokens": length}
        | {"text": " ".join([draw.choice(("é\n", '"a"', "\u2028", "word"))] + ["w"] * (length - 1))}
        for i, length in enumerate(lengths)
    ]


@functools.cache
def make_mixed(n=5_000):
    """Rows of all domains in random order, with the wanted shares of tokens."""
    rows, total = [], sum(weight / mean for mean, weight in DOMAINS.values())
    for name, (mean, weight) in DOMAINS.items():
        source = make_rows(name)
        for number in range(round(n * weight / mean / total)):
            copy, i = divmod(number, len(source))
            rows.append(source[i] | {"copy": copy})
    random.Random(0).shuffle(rows)
    return rows


def batch_rows(rows, size):
    """Arrow batches of rows."""
    strings = {name: pa.string() for name in ("doc_id", "domain", "text")}
    schema = pa.schema(strings | {name: pa.int32() for name in ("copy", "n_tokens")})
    table = pa.Table.from_pylist(rows, schema)
    return table.to_batches(max_chunksize=size) or [pa.RecordBatch.from_pylist([], schema=schema)]


def write_shard(form, rows, folder, name, size=97):
    """Write one shard as a task does; return its files."""
    batches = ((batch, None) for batch in batch_rows(rows, size))
    return copy_shard(form, folder, name, None, batches)


def make_export(form, folder, kind, n_shards=3, weights=None):
    """Write an export with the mixture WEIGHTS, or others; return its contents."""
    groups = dict.fromkeys(DOMAINS) if kind == "recipe" else {None: None}
    shards, totals = [], {name: [0, 0, 0.0] for name in DOMAINS}
    for domain in sorted(groups, key=str):
        for split, count in (("train", n_shards), ("validation", 1)):
            rows = make_split(domain, split)
            for i in range(count):
                part = rows[len(rows) * i // count : len(rows) * (i + 1) // count]
                escaped = None if domain is None else escape_name(domain)
                name = form.name_shard(split, escaped, i, count)
                files = write_shard(form, part, folder, name)
                n_tokens = sum(row["n_tokens"] for row in part)
                sizes = tuple((folder / file).stat().st_size for file in files)
                shards.append(Shard(split, domain, files, sizes, len(part), n_tokens))
                for row in part if split == "train" else ():
                    total = totals[row["domain"]]
                    total[0] += 1
                    total[1] += row["n_tokens"]
                    total[2] += row["n_tokens"] ** 2
    contents = Contents(
        kind=kind,
        domains=tuple(
            ExportedDomain(name, (weights or WEIGHTS)[name], *totals[name], epochs=1.0)
            for name in sorted(DOMAINS)
        ),
        shards=tuple(sorted(shards, key=lambda s: (s.split, s.domain or "", s.files))),
        tokenization=None,
        target_tokens=1_000_000,
        sequence_length=64,
        seed=3,
        folder=str(folder.absolute()),
    )
    describe(form, folder, contents)
    return contents


def make_split(domain, split):
    """Rows of a domain in a split, or of all."""
    if split == "train":
        return make_mixed() if domain is None else make_rows(domain)
    return [r for name in DOMAINS if domain in (None, name) for r in make_rows(name, split, 9)]


def name_format(form):
    """The plug-in spec of a format."""
    return {"use": f"{type(form).__module__}:{type(form).__name__}"} | dataclasses.asdict(form)


def describe(form, folder, contents):
    """Write the index files and the contents."""
    for name, text in form.describe(contents).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / INDEX).write_text(render_index(name_format(form), contents, {}), encoding="utf-8")


def count_shares(samples, n_tokens=2_000_000):
    """Shares of tokens per domain among the first samples."""
    counts = dict.fromkeys(DOMAINS, 0)
    for sample in samples:
        counts[sample.domain] += sample.tokens
        if sum(counts.values()) >= n_tokens:
            break
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def find_error(shares):
    """Largest distance to the wanted shares."""
    return max(abs(shares[name] - weight) for name, weight in WEIGHTS.items())
