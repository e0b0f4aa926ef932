"""Whatever bytes an input has, it is read, or refused in one line: nothing else is raised.

`make test` tries some examples, `make test-long` many. CLIMB_FUZZ_SECONDS=600 in front of pytest
searches each kind of input for that long.
"""

import contextlib
import gzip
import json
import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from climb.cli.preflight import run_preflight
from climb.config import load
from climb.errors import ClimbError
from climb.ingest.files import find_files
from climb.ingest.plan import bundle_units, plan_units
from climb.ingest.rows import encode_bundle, read_bundles
from climb.objective import Objective
from climb.proxy import Target
from climb.proxy.items import check_first_items
from climb.runs.prior import read_prior
from climb.runs.table import read_runs

SECONDS = float(os.environ.get("CLIMB_FUZZ_SECONDS", "0"))
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
LONG = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
"""Examples of one search; searches are repeated until the time is over."""

CELL = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "0.5", "1", "-1e-12", "nan", "inf", "1e30", "1_000", '"', "a,b", "\x00"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ROW = st.dictionaries(st.sampled_from(["text", "id", "meta", "doc"]), JSON, max_size=4)
LINES = st.lists(
    st.one_of(ROW.map(lambda row: json.dumps(row).encode()), st.binary(max_size=60)), max_size=6
).map(b"\n".join)
ENDINGS = [
    *(".jsonl", ".json", ".json.gz", ".ndjson.zst", ".jsonl.bz2", ".jsonl.xz", ".parquet"),
    *(".csv", ".tsv", ".csv.gz", ".arrow", ".txt", ".md", ".txt.gz"),
]


def table_bytes(rows, kind):
    """Parquet or Arrow bytes of rows whose columns have whatever types these rows give."""
    try:
        table = pa.Table.from_pylist(rows)
        sink = pa.BufferOutputStream()
        if kind == "parquet":
            pq.write_table(table, sink)
        else:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        return sink.getvalue().to_pybytes()
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):
        return b""


CONTENT = st.one_of(
    st.binary(max_size=300),
    LINES,
    LINES.map(gzip.compress),
    st.tuples(st.lists(ROW, max_size=5), st.sampled_from(["parquet", "arrow"])).map(
        lambda pair: table_bytes(*pair)
    ),
)


@st.composite
def damaged(draw):
    """Content with a part cut out or overwritten."""
    content = bytearray(draw(CONTENT))
    if content and draw(st.booleans()):
        at = draw(st.integers(0, len(content) - 1))
        content[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=8))
    return bytes(content)


def try_files(folder, content, ending, columns):
    """Ingest one file with these bytes, without Spark, and count its rows."""
    (folder / f"f{ending}").write_bytes(content)
    cfg = load(settings=[f"ingest.inputs={folder}", "ingest.skip_corrupt=true", *columns]).ingest
    units = plan_units(find_files(cfg.inputs, cfg.format), cfg)
    bundles = bundle_units(units, 2)
    batch = pa.RecordBatch.from_pydict(
        {"bundle": list(range(len(bundles))), "units": [encode_bundle(b) for b in bundles]}
    )
    for out in read_bundles(iter([batch]), cfg):
        for row in out.to_pylist():
            assert (row["reason"] is None) == (row["doc_id"] is not None)


def try_runs(folder, text):
    path = folder / "runs.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_runs(path)


def try_prior(folder, text):
    path = folder / "prior.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_prior(path, ("a", "b"), load().search)


def try_items(folder, content, kind):
    (folder / "items.jsonl").write_bytes(content)
    check_first_items(Target(name="t", kind=kind, path=str(folder / "items.jsonl")))


def try_configuration(folder, content, setting):
    (folder / "conf.yaml").write_bytes(content)
    cfg = load(folder / "conf.yaml", [setting])
    cfg = cfg.model_copy(
        update={"storage": cfg.storage.model_copy(update={"root": str(folder), "files": None})}
    )
    run_preflight(cfg, ["search"])


def try_objective(folder, text):
    Objective.parse(text, ["a.bpb", "b (c)", "x+y"])


TABLE = st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=5)
HEADER = st.lists(
    st.sampled_from(["weight.a", "weight.b", "metric.x", "seed", "run", "", "domain", "tokens"]),
    max_size=5,
)
SHEET = st.tuples(HEADER, TABLE).map(
    lambda pair: "\n".join(",".join(row) for row in [pair[0], *pair[1]])
)
KEY = st.sampled_from(
    ["storage.root", "search.seed", "search.constraints", "ingest.inputs", "proxy.targets", "a.b"]
)
YAML = st.one_of(
    st.binary(max_size=80),
    st.dictionaries(
        st.sampled_from(["storage", "search", "ingest", "proxy", "mix", "x"]),
        st.dictionaries(st.sampled_from(["root", "seed", "inputs", "targets", "tokens"]), JSON),
        max_size=3,
    ).map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "replace")),
)
COLUMNS = st.sampled_from(
    [
        (),
        ("ingest.metadata_columns=[id, meta]",),
        ("ingest.text_column=doc.text", "ingest.source_column=id"),
    ]
)
KINDS = {
    "files": (try_files, (damaged(), st.sampled_from(ENDINGS), COLUMNS)),
    "runs": (try_runs, (SHEET,)),
    "prior": (try_prior, (SHEET,)),
    "items": (try_items, (LINES, st.sampled_from(["choices", "text"]))),
    "configuration": (
        try_configuration,
        (YAML, st.tuples(KEY, CELL).map(lambda pair: f"{pair[0]}={pair[1]}")),
    ),
    "objective": (try_objective, (st.text(alphabet='ab.bpb(c)x+y*:,"minax0', max_size=40),)),
}


def search(kind, folder, profile, seconds=0.0):
    """Try examples of one kind, for that long; no error but those of climb is allowed."""
    function, strategies = KINDS[kind]
    started = time.monotonic()

    @profile
    @given(st.tuples(*strategies))
    def attempt(values):
        with contextlib.suppress(ClimbError):
            function(folder, *values)

    attempt()
    while time.monotonic() - started < seconds:
        attempt()


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_read_or_refused_in_one_line(kind, tmp_path):
    search(kind, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_inputs_are_read_or_refused_in_one_line(kind, tmp_path):
    search(kind, tmp_path, LONG, SECONDS or 20)
