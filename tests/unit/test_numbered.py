"""Rows that are sorted by number go to one file for each number, wherever batches end."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from climb.spark.numbered import write_by_number

SCHEMA = pa.schema([("text", pa.string())])
NUMBERS = [3, 3, 5, 5, 5, 8, 9, 9]


class Recorded:
    """A file that keeps its rows until it is finished."""

    def __init__(self, number, done):
        self.number, self.done, self.texts = number, done, []

    def add(self, rows):
        assert rows.schema == SCHEMA
        self.texts += rows["text"].to_pylist()

    def finish(self):
        self.done.append((self.number, self.texts))


@pytest.mark.parametrize("ends", [[], [2, 5], [1, 3, 4, 7], [0, 8], range(1, 8)])
def test_every_file_gets_its_rows_in_order_and_is_finished_once(ends):
    texts = [f"{number}-{i}" for i, number in enumerate(NUMBERS)]
    table = pa.table({"number": pa.array(NUMBERS, pa.int32()), "text": texts})
    bounds = [0, *ends, len(NUMBERS)]
    batches = [
        pa.RecordBatch.from_pydict(table.slice(a, b - a).to_pydict(), schema=table.schema)
        for a, b in itertools.pairwise(bounds)
    ]
    done = []
    written = write_by_number(batches, SCHEMA, lambda number: Recorded(number, done))
    assert [row["number"] for batch in written for row in batch.to_pylist()] == [3, 5, 8, 9]
    expected = [(n, [t for t in texts if t.startswith(f"{n}-")]) for n in np.unique(NUMBERS)]
    assert done == expected


def test_a_file_is_finished_before_the_next_one_is_opened():
    events = []

    class Logged(Recorded):
        def finish(self):
            events.append(f"finish {self.number}")

    def open_file(number):
        events.append(f"open {number}")
        return Logged(number, [])

    batch = pa.RecordBatch.from_pydict({"number": [1, 2], "text": ["a", "b"]})
    assert len(list(write_by_number([batch], SCHEMA, open_file))) == 2
    assert events == ["open 1", "finish 1", "open 2", "finish 2"]
