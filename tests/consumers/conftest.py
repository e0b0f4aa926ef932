"""The interpreters of trainers, in which their own loaders read our exports.

`make consumers` makes them in `.consumers/NAME`; the variable CLIMB_CONSUMERS names another folder.
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from climb.export.contents import dump_contents

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CLIMB_CONSUMERS") or ROOT / ".consumers")

BOOTSTRAP = f"""
import collections, importlib, importlib.util, itertools, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location(
    "climb", {str(ROOT / "lib/climb/__init__.py")!r},
    submodule_search_locations=[{str(ROOT / "lib/climb")!r}],
)
sys.modules["climb"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""

READ = """
from climb.export.contents import parse_contents
module, name, options, contents, count = json.loads(sys.argv[1])
fmt = getattr(importlib.import_module(module), name)(**options)
contents = parse_contents(contents)
tokens, n_samples = collections.Counter(), 0
for sample in itertools.islice(fmt.read_samples(Path(contents.folder), contents), count):
    tokens[sample.domain] += sample.tokens
    n_samples += 1
print("RESULT", json.dumps([n_samples, tokens]))
"""


@pytest.fixture
def run_consumer():
    """Run code in the interpreter of a trainer, with climb on its path; return what it prints."""

    def run(name, code, *arguments):
        python = FOLDER / name / "bin" / "python"
        if not python.exists():
            pytest.skip(f"needs {python}: run make consumers")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        # Some loaders start programs that are installed beside the interpreter.
        environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [python, "-c", BOOTSTRAP + code, *arguments],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    return run


@pytest.fixture
def read_shares(run_consumer):
    """Read samples with the trainer's loader; return the share of tokens of each domain."""

    def read(name, fmt, contents, count=3000):
        options = {field.name: getattr(fmt, field.name) for field in dataclasses.fields(fmt)}
        kind = type(fmt)
        request = [kind.__module__, kind.__name__, options, dump_contents(contents), count]
        output = run_consumer(name, READ, json.dumps(request))
        line = next(line for line in output.splitlines() if line.startswith("RESULT"))
        n_samples, tokens = json.loads(line.removeprefix("RESULT"))
        assert n_samples > 0
        return {domain: n / sum(tokens.values()) for domain, n in sorted(tokens.items())}

    return read


@pytest.fixture
def rng():
    return np.random.default_rng(3)
