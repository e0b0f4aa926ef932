"""Heartbeats of runs: what a worker writes, what the driver shows, and when a run hangs."""

import dataclasses
import itertools

import pytest

from climb.proxy import heartbeat
from climb.proxy.heartbeat import Heartbeat, RunProgress, read_progress
from climb.proxy.llama import LlamaProxy
from climb.spark.training.watch import RunDisplay, Watch, WatchSettings, describe_progress
from climb.testing.contracts import build_tiny_run

TINY = LlamaProxy(hidden=16, layers=1, heads=2, sequence=16, batch=8, learning_rate=1e-2)


@pytest.fixture
def clock(monkeypatch):
    """A clock for worker and driver that a test sets."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(heartbeat.time, "monotonic", clock)
    return clock


@pytest.fixture
def watch(clock):
    display = RunDisplay("search", is_terminal=False)
    return Watch(WatchSettings("search", hung_minutes=1.0), display, clock)


def test_a_heartbeat_has_tokens_loss_and_time_left(tmp_path, clock):
    path = tmp_path / "new" / "run.progress"
    beat = Heartbeat(str(path))
    beat.beat()
    first = read_progress(path)
    assert (first.tokens, first.seconds_left) == (0, None)
    for tokens in (100, 200):
        clock.now += 10.0
        beat.beat(tokens, 1000, 5.0 - tokens / 100)
    found = read_progress(path)
    assert dataclasses.replace(found, beat="") == RunProgress("", 200, 1000, 3.0, 80.0)
    assert describe_progress(found) == "200 of 1,000 tokens (20%), loss 3.000, 0:01:20 left"


def test_heartbeats_are_written_seldom_and_differ_between_processes(tmp_path, clock):
    path = tmp_path / "run.progress"
    one, other = Heartbeat(str(path)), Heartbeat(str(path))
    one.beat(1, 10)
    written = path.read_bytes()
    clock.now += heartbeat.SECONDS_PER_BEAT / 2
    one.beat(2, 10)
    assert path.read_bytes() == written
    other.beat(1, 10)
    assert path.read_bytes() != written


def test_a_heartbeat_that_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    Heartbeat(str(tmp_path / "file" / "run.progress")).beat()
    Heartbeat(None).beat()


def test_a_damaged_heartbeat_is_no_heartbeat(tmp_path):
    path = tmp_path / "run.progress"
    assert read_progress(path) is None
    for content in (b"", b'{"beat": "a"', b"[1]", b'{"other": 1}', b"\xff"):
        path.write_bytes(content)
        assert read_progress(path) is None


def test_a_training_reports_its_steps_and_its_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_PER_BEAT", 0.0)
    written = []
    monkeypatch.setattr(
        heartbeat, "write_file", lambda path, content: written.append((path, content()[0]))
    )
    run = dataclasses.replace(
        build_tiny_run(tmp_path, 16 * 8 * 3 + 16), heartbeat=str(tmp_path / "p"), save=None
    )
    metrics = TINY.train(run, "cpu")
    seen = [RunProgress(**heartbeat.json.loads(content)) for _, content in written]
    assert [p.tokens for p in seen] == [128, 256, 384, 400, 400, 400]
    assert {p.total for p in seen} == {400}
    assert seen[0].loss > seen[3].loss > 0.0
    assert metrics == TINY.train(dataclasses.replace(run, heartbeat=None), "cpu")


def test_only_a_run_without_a_new_heartbeat_for_too_long_hangs(tmp_path, clock, watch):
    beats = {name: Heartbeat(str(tmp_path / name)) for name in "ab"}
    for name, beat in beats.items():
        watch.start(name, tmp_path / name)
        beat.beat()
    assert watch.poll() == []
    for _ in range(5):
        clock.now += 15.0
        beats["b"].beat(1, 10)
        hung = watch.poll()
    assert hung == ["a"]  # for 75 of 60 seconds; the number of tokens of b did not change either
    clock.now += 10.0
    beats["b"].beat(1, 10)
    assert watch.poll() == []  # the next try of a has not begun


def test_a_run_that_waits_for_a_machine_does_not_hang(tmp_path, clock, watch):
    Heartbeat(str(tmp_path / "a")).beat()  # of an earlier start of the search
    watch.start("a", tmp_path / "a")
    for _ in range(3):
        clock.now += 3600.0
        assert watch.poll() == []
    Heartbeat(str(tmp_path / "a")).beat()
    clock.now += 3600.0
    assert watch.poll() == []
    clock.now += 61.0
    assert watch.poll() == ["a"]


def test_without_a_limit_no_run_hangs(tmp_path, clock):
    watch = Watch(WatchSettings(), RunDisplay("x", is_terminal=False), clock)
    watch.start("a", tmp_path / "a")
    Heartbeat(str(tmp_path / "a")).beat()
    for _ in range(3):
        clock.now += 1e6
        assert watch.poll() == []


def test_an_ended_run_leaves_no_file_and_is_not_observed(tmp_path, clock):
    observed = []
    watch = Watch(WatchSettings(observe=observed.append), RunDisplay("x", False), clock)
    for name in "ab":
        watch.start(name, tmp_path / name)
        Heartbeat(str(tmp_path / name)).beat(5, 10)
    watch.poll()
    watch.stop("a")
    clock.now += 10.0
    watch.poll()
    assert [sorted(running) for running in observed] == [["a", "b"], ["b"]]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_polls_of_a_slow_mount_take_a_twentieth_of_the_time(tmp_path):
    times = itertools.chain([0.0, 10.0, 199.0, 201.0, 201.0])
    watch = Watch(WatchSettings(), RunDisplay("x", False), lambda: next(times))
    watch.poll()  # takes 10 s
    observed = []
    watch.settings = WatchSettings(observe=observed.append)
    watch.poll()
    assert observed == []
    watch.poll()
    assert observed == [{}]


def test_without_a_terminal_a_line_is_printed_for_every_quarter_but_not_for_short_runs(
    clock, capsys
):
    display = RunDisplay("search", is_terminal=False)
    for tokens in range(0, 101, 5):
        display.update({"short": RunProgress(str(tokens), tokens, 100, 2.0)})
        clock.now += 2.0
    assert capsys.readouterr().out == ""
    for tokens in range(0, 101, 5):
        display.update({"long": RunProgress(str(tokens), tokens, 100, 2.0, 60.0)})
        clock.now += 20.0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "search   long: 25 of 100 tokens (25%), loss 2.000, 0:01:00 left"
    assert [line.split()[2] for line in lines] == ["25", "50", "75", "100"]


def test_on_a_terminal_every_run_has_a_bar_on_a_line_of_its_own(capsys):
    display = RunDisplay("search", is_terminal=True)
    running = {name: RunProgress("1", 50, 100, 2.0) for name in ("one", "two")}
    display.update(running)
    assert sorted(line for line, _ in display._bars.values()) == [1, 2]
    display.remove("one")
    display.update({"three": running["one"], "two": running["two"]})
    assert sorted(line for line, _ in display._bars.values()) == [1, 2]
    for name in ("two", "three"):
        display.remove(name)
    shown = capsys.readouterr().err
    assert "two" in shown
    assert "50%" in shown
