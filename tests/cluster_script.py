"""Run a script with a session on a cluster of processes; the session of the tests is local."""

import os
import subprocess
import sys

NAME_RUN = """
from dataclasses import fields, replace
from climb.proxy import ProxyRun

def name_run(name):
    # A run without data; `checkpoints` identifies it.
    return name, replace(ProxyRun(**{f.name: None for f in fields(ProxyRun)}), checkpoints=name)
"""
"""What every script can use. Workers get the code of the script, so it cannot be imported."""


def run_script(code, *args):
    """Run code with these arguments; no GPU of this machine is hidden from its tasks."""
    env = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    return subprocess.run(
        [sys.executable, "-c", NAME_RUN + code, *map(str, args)],
        env=env | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
