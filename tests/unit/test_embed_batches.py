"""A stream of texts: its order, its batches, and how far it reads ahead."""

import itertools
import threading
import time

import numpy as np
import pytest

from climb.embed import batches, device
from climb.embed.batches import Batching, run_model, split_batches, stream_model
from climb.embed.device import choose_batching, fit_tokens, probe_batch_tokens

WAIT = 30.0
"""Seconds after which a test fails that waits for another thread."""


class Words:
    """A model with a token for each word; a text's values are its number of words and their sum."""

    width = 2

    def __init__(self, max_tokens=8):
        self.max_tokens = max_tokens
        self.launched = []

    def encode(self, texts):
        return [[int(word) for word in text.split()][: self.max_tokens] for text in texts]

    def launch(self, encoded, length):
        assert max(map(len, encoded)) <= length
        self.launched.append([list(each) for each in encoded])
        values = np.array([[len(each), sum(each)] for each in encoded], dtype=np.float32)
        return lambda: values


def draw_texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(map(str, rng.integers(0, 99, size=rng.integers(0, 9)))) for _ in range(n)]


def expect(texts):
    words = [list(map(int, text.split())) for text in texts]
    return np.array([[len(each), sum(each)] for each in words]).reshape(-1, 2)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("sizes", [[700], [1] * 50, [0, 3, 0, 0, 900, 1, 0], [0], [0, 0], []])
def test_each_list_gets_its_values_in_order(sizes, exact):
    texts = iter(draw_texts(sum(sizes)))
    lists = [list(itertools.islice(texts, size)) for size in sizes]
    found = list(stream_model(Words(), lists, Batching(64, exact=exact)))
    assert [values.shape for values in found] == [(size, 2) for size in sizes]
    for values, of in zip(found, lists, strict=True):
        np.testing.assert_array_equal(values, expect(of))


def test_batches_of_a_window_stay_within_the_budget_and_are_longest_first():
    model = Words()
    run_model(model, draw_texts(100), Batching(400, multiple=4))
    for batch in model.launched:
        lengths = [len(each) for each in batch]
        assert len(batch) * -(-max(lengths) // 4) * 4 <= 400
    longest = [max(map(len, batch)) for batch in model.launched]
    assert longest == sorted(longest, reverse=True)
    assert len(model.launched) < 6


def test_exact_batches_contain_texts_of_one_length():
    model = Words()
    run_model(model, draw_texts(300), Batching(64, exact=True))
    # A text without tokens has the length of one.
    assert all(len({max(1, len(each)) for each in batch}) == 1 for batch in model.launched)
    lengths = np.array([3, 5, 5, 3, 5, 0, 3])
    rows = [each.tolist() for each in split_batches(lengths, 10, exact=True)]
    assert rows == [[1, 2], [4], [0, 3, 6], [5]]


def test_lengths_are_padded_to_a_multiple_but_not_above_the_maximum():
    class Lengths(Words):
        def launch(self, encoded, length):
            padded.add(length)
            return super().launch(encoded, length)

    padded = set()
    run_model(Lengths(max_tokens=7), draw_texts(50), Batching(64, multiple=4))
    assert padded == {4, 7}


def test_batches_do_not_depend_on_the_speed_of_the_tokenizer():
    class Slow(Words):
        def encode(self, texts):
            time.sleep(0.002)
            return super().encode(texts)

    lists = [draw_texts(300, seed) for seed in range(12)]
    fast, slow = Words(), Slow()
    for model in (fast, slow):
        list(stream_model(model, lists, Batching(64)))
    assert fast.launched == slow.launched


def test_the_first_window_is_small_so_that_the_device_starts_early():
    n_read = count_read(Words(), Batching(64), "1 2 3 4 5 6 7 8", size=256)
    model = Words()
    stream = stream_model(model, ([text] * 256 for text in itertools.repeat("1 2 3")), Batching(64))
    next(stream)
    stream.close()
    # The first window and a batch of the second; later windows have 32 x 64 tokens.
    assert sum(map(len, model.launched)) <= 256 + 64
    assert n_read > 2


def test_texts_are_tokenised_while_the_device_computes():
    was_tokenised = threading.Event()

    class Overlapped(Words):
        def encode(self, texts):
            if "77 77" in texts:
                was_tokenised.set()
            return super().encode(texts)

        def launch(self, encoded, length):
            wait = super().launch(encoded, length)

            def wait_for_the_tokenizer():
                # The text is in the second window, which no batch on the device belongs to.
                assert was_tokenised.wait(WAIT), "nothing was tokenised beside the device"
                return wait()

            return wait_for_the_tokenizer

    lists = [draw_texts(256) for _ in range(4)] + [["77 77"]]
    next(stream_model(Overlapped(), lists, Batching(64)))


def count_read(model, batching, text, size, n_results=1):
    """Lists that are read from an endless input when `n_results` have been returned."""
    n_read = 0

    def read():
        nonlocal n_read
        while True:
            n_read += 1
            yield [text] * size

    stream = stream_model(model, read(), batching)
    for _ in range(n_results):
        next(stream)
    stream.close()
    return n_read


def test_reading_ahead_is_bounded_by_tokens():
    n_read = count_read(Words(), Batching(64), "1 2 3 4 5 6 7 8", size=10, n_results=200)
    # 200 results, the rest of a window of 32 x 64 tokens, three windows ahead, and one list.
    window = 32 * 64 / (10 * 8)
    assert n_read <= 200 + 4 * window + 256 / 10 + 2


def test_long_texts_that_wait_for_the_tokenizer_are_bounded_by_characters(monkeypatch):
    class Slow(Words):
        def encode(self, texts):
            time.sleep(0.2)  # meanwhile the reader reads as far ahead as it may
            n_read.append(len(read))
            return super().encode(texts)

    def read_texts():
        for _ in range(200):
            read.append(1)
            yield ["1 " * 5_000]

    read, n_read = [], []
    monkeypatch.setattr(batches, "AHEAD_CHARS", 50_000)
    stream = stream_model(Slow(), read_texts(), Batching(8))
    next(stream)
    stream.close()
    assert n_read[0] == 5  # 5 x 10,000 characters


def test_an_error_of_the_tokenizer_is_raised_and_its_thread_ends():
    class Failing(Words):
        def encode(self, texts):
            raise ValueError("a bad text")

    with pytest.raises(ValueError, match="a bad text"):
        run_model(Failing(), ["1"], Batching(8))
    assert not [t for t in threading.enumerate() if t.name.startswith("tokenizer")]


def test_a_stream_that_is_closed_ends_its_thread():
    count_read(Words(), Batching(8), "1 2", size=300)
    assert not [t for t in threading.enumerate() if t.name.startswith("tokenizer")]


def test_a_cpu_gets_small_batches_without_padding_and_a_gpu_padded_ones():
    assert choose_batching(None, "cpu", 256) == Batching(device.CPU_BATCH_TOKENS, exact=True)
    assert choose_batching(99, "cpu", 256) == Batching(99, exact=True)
    assert choose_batching(4096, "cuda:0", 256) == Batching(4096, multiple=16)


def test_the_budget_of_a_gpu_is_a_power_of_two_that_fits_its_free_memory():
    gib = 2**30
    assert fit_tokens(16 * gib, 300_000, 512) == 16_384  # 0.4 * 16 GiB / 300 kB = 22,906
    assert fit_tokens(16 * gib, 300_001, 512) == 16_384
    assert fit_tokens(80 * gib, 10_000, 512) == device.MAX_BATCH_TOKENS
    assert fit_tokens(gib, 10e6, 512) == 512  # one text, which may still be halved to fail


class FakeGpu:
    """The memory functions of `torch.cuda`, for a model that needs 1 MB for each token."""

    def __init__(self, most_tokens):
        self.most_tokens, self.peak = most_tokens, 0
        self.tried = []

    def forward(self, n_texts, length):
        import torch

        self.tried.append(n_texts * length)
        if n_texts * length > self.most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.peak = n_texts * length * 10**6

    def install(self, monkeypatch):
        import torch

        names = {
            "empty_cache": lambda: None,
            "memory_allocated": lambda _: 0,
            "reset_peak_memory_stats": lambda _: None,
            "max_memory_allocated": lambda _: self.peak,
            "mem_get_info": lambda _: (40 * 10**9, 80 * 10**9),
        }
        for name, function in names.items():
            monkeypatch.setattr(torch.cuda, name, function)


def test_the_probe_measures_the_memory_of_a_token_and_halves_itself(monkeypatch):
    from climb.errors import ComponentError

    for most_tokens, n_tries in ((10**6, 1), (3_000, 3)):
        gpu = FakeGpu(most_tokens)
        gpu.install(monkeypatch)
        # 0.4 * 40 GB / 1 MB = 16,000 tokens.
        assert probe_batch_tokens("cuda:0", 512, gpu.forward) == 8_192
        assert len(gpu.tried) == n_tries
    gpu = FakeGpu(most_tokens=100)
    gpu.install(monkeypatch)
    with pytest.raises(ComponentError, match="a single document of 512 tokens"):
        probe_batch_tokens("cuda:0", 512, gpu.forward)
