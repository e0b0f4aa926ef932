"""A shard of many files is planned from counts alone, and reads like one array."""

import contextlib
import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from climb import tokenizer
from climb.errors import ComponentError, TableError
from climb.files import LocalCopies, is_complete, join_complete, local, read_digest, write_complete
from climb.proxy import shards
from climb.proxy.checkpoint import compute_run_digest
from climb.proxy.data import hold_local_shards, plan_stream
from climb.proxy.llama import LlamaProxy
from climb.proxy.shards import Part, compute_part_tokens, count_buckets, open_shard, plan_parts
from climb.spark.training.pack_files import SCHEMA, PackTask, ShardFile
from climb.testing.contracts import build_tiny_run
from climb.tokenizer import END_OF_TEXT, split_texts, train_json

KB = 1e-6  # in GB


def write_shard(folder, lengths, dtype=np.uint16):
    """Write a complete folder of files with the numbers 0, 1, 2, ... in order."""
    ids, start = np.arange(sum(lengths), dtype=dtype), 0
    names = [f"part-{i:05d}.npy" for i in range(len(lengths))]
    folder.mkdir(parents=True)
    for name, length in zip(names, lengths, strict=True):
        np.save(folder / "scratch.npy", ids[start : start + length])
        write_complete(folder / name, lambda: [(folder / "scratch.npy").read_bytes()])
        start += length
    (folder / "scratch.npy").unlink()
    join_complete(folder, names)
    return ids


@pytest.mark.parametrize("seed", range(30))
def test_files_follow_one_another_and_have_the_wanted_tokens(seed):
    rng = np.random.default_rng(seed)
    tokens_B = rng.integers(0, 50, rng.integers(1, 200)) * (rng.random() < 0.9)
    total, size = int(tokens_B.sum()), int(rng.integers(1, 400))
    wanted = int(rng.integers(1, 2 * total + 2))
    parts = plan_parts(tokens_B, wanted, size)
    assert sum(part.n_tokens for part in parts) == min(wanted, total)
    assert len(parts) <= min(wanted, total) // size + 1
    for part, after in itertools.pairwise(parts):
        assert after.first_bucket == part.last_bucket + 1
        assert size <= part.n_tokens < size + 50
        assert part.n_tokens == tokens_B[part.first_bucket : part.last_bucket + 1].sum()
    assert not parts or parts[0].first_bucket == 0


def test_a_shard_below_the_size_of_a_file_is_one_file():
    assert plan_parts(np.array([5, 0, 7, 9]), 12, 100) == [Part(0, 2, 12)]
    assert plan_parts(np.array([5, 0, 7, 9]), 13, 100) == [Part(0, 3, 13)]


@pytest.mark.parametrize("tokens", [[10**12, 10**9, 5], [10**14] * 50, [7, 10**5]])
def test_plan_and_open_files_are_bounded_for_a_corpus_of_any_size(tokens):
    numbers = count_buckets(tokens)
    assert sum(numbers) <= shards.MAX_BUCKETS + len(tokens)
    assert all(n >= 1 for n in numbers)
    size = compute_part_tokens(sum(tokens))
    assert sum(n // size + 1 for n in tokens) <= shards.MAX_PARTS + len(tokens)
    assert size >= shards.PART_TOKENS


@pytest.mark.parametrize("lengths", [[1, 6, 2, 11, 1, 1], [22]])
def test_every_window_of_many_files_is_that_of_one_array(tmp_path, lengths):
    ids = write_shard(tmp_path / "s", lengths)
    joined = open_shard(str(tmp_path / "s"), "law")
    assert len(joined) == len(ids)
    for start in range(len(ids) + 1):
        for stop in range(len(ids) + 3):
            np.testing.assert_array_equal(joined[start:stop], ids[start:stop])
    for part, end in zip(joined.parts, np.cumsum(lengths), strict=True):
        assert np.shares_memory(joined[end - len(part) : end], part)  # a view, not a copy


def test_a_stream_of_many_files_has_the_sequences_of_one_file(tmp_path):
    many = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    one = {domain: f"{path}.npy" for domain, path in many.items()}
    np.save(one["a"], write_shard(tmp_path / "a", [100, 3, 217]))
    np.save(one["b"], write_shard(tmp_path / "b", [2, 3]))  # repeats within a sequence
    same = {"n_sequences": 90, "length": 16, "seed": 3, "stage": "base"}
    weights = {"a": 0.75, "b": 0.25}
    expected = plan_stream(weights, one, **same).read_batch(0, 90)
    np.testing.assert_array_equal(plan_stream(weights, many, **same).read_batch(0, 90), expected)


def test_a_folder_counts_only_when_it_is_complete_and_only_with_its_own_files(tmp_path):
    ids = write_shard(tmp_path / "s", [4, 5])
    np.save(tmp_path / "s" / "part-00002.npy", ids)  # of an older plan
    assert len(open_shard(str(tmp_path / "s"), "law")) == 9
    part = tmp_path / "s" / "part-00001.npy"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(ComponentError, match=r"s of domain 'law' is not complete; run `climb pack"):
        open_shard(str(tmp_path / "s"), "law")


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A shard of three files of about 10 kB on a mount."""
    monkeypatch.setattr(local, "is_on_local_disk", lambda path: "mount" not in path.parts)
    monkeypatch.setattr(local, "_reported", set())
    write_shard(tmp_path / "mount" / "s", [5000, 5000, 5000])
    return tmp_path / "mount" / "s"


def test_all_files_of_a_shard_are_copied_verified_held_and_deleted_together(remote, tmp_path):
    copies = LocalCopies(str(tmp_path / "disk"), 40.0 * KB)
    with copies.hold([remote]) as found:
        copy = found[remote]
        assert copy.name == read_digest(remote) == read_digest(copy)
        assert len(copy.name) == 64
        np.testing.assert_array_equal(
            open_shard(str(copy), "a")[:], open_shard(str(remote), "a")[:]
        )
        other = tmp_path / "mount" / "b.npy"
        write_complete(other, lambda: [b"b" * 20_000])
        with copies.hold([other]) as found:
            assert found == {other: other}  # the folder is held, and both do not fit
        assert is_complete(copy)
    with copies.hold([other]) as found:
        assert found[other] != other
    assert not copy.exists()
    (remote / "part-00001.npy").write_bytes(b"x" * (remote / "part-00001.npy").stat().st_size)
    with pytest.raises(ComponentError, match=r"part-00001\.npy has SHA-256 .* run `climb pack`"):
        copies.hold([remote]).__enter__()
    assert not is_complete(copy)


def test_a_copy_that_was_killed_half_way_is_written_again(remote, tmp_path):
    copies = LocalCopies(str(tmp_path / "disk"), 1.0)
    with copies.hold([remote]) as found:
        copy = found[remote]
    (copy / "complete.json").unlink()
    (copy / "part-00002.npy").unlink()
    with copies.hold([remote]) as found:
        assert is_complete(found[remote])
        assert len(open_shard(str(found[remote]), "a")) == 3 * 5000


def test_a_copy_that_was_deleted_and_written_again_before_the_lock_is_not_held(
    remote, tmp_path, monkeypatch
):
    copies = LocalCopies(str(tmp_path / "disk"), 1.0)
    with copies.hold([remote]) as found:
        copy = found[remote]

    def lock(handle, kind, once=[True]):  # noqa: B006  # only the first call
        if once and once.pop():
            copy.rename(tmp_path / "deleted")
            shutil.copytree(tmp_path / "deleted", copy)

    monkeypatch.setattr(local.fcntl, "flock", lock)
    with contextlib.ExitStack() as stack:
        assert not local._hold(stack, copy)
        assert local._hold(stack, copy)


def test_a_run_on_copies_of_many_files_is_the_same_run(remote, tmp_path):
    proxy = LlamaProxy(hidden=8, layers=1, heads=1, sequence=16, batch=4, learning_rate=1e-2)
    run = build_tiny_run(tmp_path / "data", 256)
    run = replace(
        run,
        shards=dict.fromkeys(run.shards, str(remote)),
        local_copies=LocalCopies(str(tmp_path / "disk"), 1.0),
    )
    with hold_local_shards(run) as held:
        folder = tmp_path / "disk" / f"climb-local-{os.getuid()}"
        assert all(Path(path).parent == folder for path in held.shards.values())
        assert compute_run_digest(proxy, held, "cpu") == compute_run_digest(proxy, run, "cpu")


@pytest.fixture(scope="module")
def model():
    return train_json([f"a document about {i}" for i in range(50)], 300)


def pack(folder, model, texts, n_tokens, extra=0):
    """Pack texts to one file, and return its ids; `extra` falsifies the counted tokens."""
    opened = tokenizer.open_tokenizer(model)
    counts = [len(opened.encode(text).ids) for text in texts]
    rows = [
        {"number": 7, "doc_id": f"d{i}", "n_tokens": n + extra, "text": text}
        for i, (n, text) in enumerate(zip(counts, texts, strict=True))
    ]
    schema = SCHEMA.insert(0, pa.field("number", pa.int32()))
    batches = [pa.RecordBatch.from_pylist(rows[i : i + 3], schema=schema) for i in (0, 3, 6)]
    file = ShardFile(7, "trial", "law", folder / "x.npy", Part(0, 0, n_tokens))
    written = list(PackTask({7: file}, model, END_OF_TEXT).write(batches))
    assert [batch.to_pylist() for batch in written] == [[{"number": 7}]]
    return np.load(file.path)


def test_a_file_has_every_document_with_its_end_and_is_cut_at_its_tokens(tmp_path, model):
    opened = tokenizer.open_tokenizer(model)
    texts = [f"a document about {'x' * i}" for i in range(8)]
    end = opened.token_to_id(END_OF_TEXT)
    expected = [i for text in texts for i in [*opened.encode(text).ids, end]]
    for n in (1, len(expected) // 2, len(expected)):
        ids = pack(tmp_path, model, texts, n)
        assert ids.dtype == np.uint16
        assert ids.tolist() == expected[:n]
        assert is_complete(tmp_path / "x.npy")


def test_documents_after_the_cut_are_not_encoded(tmp_path, model, monkeypatch):
    seen = []
    encode = tokenizer.encode_texts
    monkeypatch.setattr(
        "climb.spark.training.pack_files.encode_texts",
        lambda opened, texts: seen.extend(texts) or encode(opened, texts),
    )
    texts = [f"text {i}" for i in range(9)]
    opened = tokenizer.open_tokenizer(model)
    first = sum(len(opened.encode(text).ids) + 1 for text in texts[:4])
    pack(tmp_path, model, texts, first)
    assert seen == texts[:4]
    seen.clear()
    pack(tmp_path, model, texts, first + 1)
    assert seen == texts[:5]


def test_a_count_that_differs_from_the_tokenizer_is_an_error_of_one_line(tmp_path, model):
    with pytest.raises(
        TableError, match=r"a count of \d+ tokens for document d0, but .* run `climb"
    ):
        pack(tmp_path, model, ["one", "two"], 3, extra=1)
    assert not (tmp_path / "x.npy").exists()


def test_texts_are_encoded_in_slices_of_bounded_size(monkeypatch):
    monkeypatch.setattr(tokenizer, "ENCODED_TEXTS", 3)
    monkeypatch.setattr(tokenizer, "ENCODED_CHARS", 10)
    texts = ["aa", "bb", "cc", "dd", "e" * 30, "ffffff", "gggg", "h", ""]
    parts = [texts[part] for part in split_texts(texts)]
    assert parts == [["aa", "bb", "cc"], ["dd"], ["e" * 30], ["ffffff", "gggg"], ["h", ""]]
    assert list(split_texts([])) == []


def test_counting_and_packing_encode_the_same_ids_in_slices(model, monkeypatch):
    texts = [f"text {i} " * i for i in range(40)]
    opened = tokenizer.open_tokenizer(model)
    whole = [opened.encode(text).ids for text in texts]
    monkeypatch.setattr(tokenizer, "ENCODED_CHARS", 50)
    assert list(tokenizer.encode_texts(opened, texts)) == whole


def test_a_process_opens_no_more_files_than_the_shard_has(tmp_path):
    write_shard(tmp_path / "s", [10] * 20)
    before = len(list(Path("/proc/self/fd").iterdir()))
    joined = open_shard(str(tmp_path / "s"), "law")
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 20
    assert len(joined.parts) == 20
