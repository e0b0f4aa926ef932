"""An environment that is shipped as an archive, and a standalone cluster on one machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyspark

ROOT = Path(__file__).resolve().parents[2]
SPARK = Path(pyspark.__file__).parent
THIRD_PARTY = SPARK.parent
"""The installed packages. An editable climb there is not visible through a .pth file."""


def clean_env(**extra):
    """The variables of this process without those that would show another climb to Python."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    return env | {"SPARK_HOME": str(SPARK)} | extra


def build_wheel(folder):
    """Build the wheel of a copy of the sources, since a build writes into them."""
    sources = folder / "sources"
    sources.mkdir()
    for name in ("lib", "jobs", "conf"):
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(ROOT / name, sources / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(sources)], check=True, capture_output=True, env=clean_env())
    [wheel] = folder.glob("*.whl")
    return wheel


def make_environment(folder, wheel=None):
    """Make a relocatable environment. Installing torch again would take gigabytes and minutes, so
    a .pth file adds the third-party packages, as an image of the executors would have them.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    make = [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)]
    subprocess.run(make, check=True, env=clean_env())
    python = folder / "bin" / "python"
    if wheel is not None:
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
        subprocess.run([*install, str(wheel)], check=True, env=clean_env())
    [site] = folder.glob("lib/python*/site-packages")
    (site / "third-party.pth").write_text(f"{THIRD_PARTY}\n")
    return folder


def find_job(environment, name):
    """Return the path of a job in an environment."""
    [path] = environment.glob(f"lib/python*/site-packages/climb/jobs/{name}.py")
    return path


def submit(master, environment, job, *args, options=(), conf=None, stdout=subprocess.PIPE):
    """Start spark-submit as docs/cluster.md says, in a folder without a checkout."""
    archive = environment.with_name(f"{environment.name}.tar.gz")
    if not archive.exists():
        subprocess.run(["tar", "-czf", str(archive), "-C", str(environment), "."], check=True)
    values = {
        "spark.pyspark.driver.python": environment / "bin" / "python",
        "spark.executor.memory": "1g",
        "spark.executor.cores": "1",
        **(conf or {}),
    }
    python = ["--conf", "spark.pyspark.python=./environment/bin/python"]
    ship = options or ["--archives", f"{archive}#environment", *python]
    settings = [word for key, value in values.items() for word in ("--conf", f"{key}={value}")]
    command = [SPARK / "bin" / "spark-submit", "--master", master, *ship, *settings, job, *args]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=environment.parent,
        env=clean_env(SPARK_LOCAL_IP="127.0.0.1"),
        start_new_session=True,
    )


class Standalone:
    """A master and workers of Spark's standalone mode; a context manager that stops them."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"spark://127.0.0.1:{probe.getsockname()[1]}"

    def __enter__(self):
        port = self.url.rpartition(":")[2]
        self._start("master.Master", "--port", port)
        self._wait_for("master.Master-0", "Starting Spark master")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)

    def add_worker(self, cores=1, memory="2g"):
        """Start a worker, and wait until the master has registered it."""
        work = self.folder / f"work-{len(self.processes)}"
        sizes = ["--cores", str(cores), "--memory", memory, "--work-dir", str(work)]
        worker = self._start("worker.Worker", *sizes, self.url)
        self._wait_for(f"worker.Worker-{len(self.processes) - 1}", "Successfully registered")
        return worker

    def kill(self, process):
        """Kill a worker and its executors at once, as when a node is lost."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _start(self, name, *args):
        log = (self.folder / f"{name}-{len(self.processes)}.log").open("w")
        command = [SPARK / "bin" / "spark-class", f"org.apache.spark.deploy.{name}"]
        address = ["--host", "127.0.0.1", "--webui-port", "0"]
        process = subprocess.Popen(
            [str(word) for word in (*command, *address, *args)],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=clean_env(SPARK_LOCAL_IP="127.0.0.1"),
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def _wait_for(self, name, text, timeout=60):
        log, end = self.folder / f"{name}.log", time.monotonic() + timeout
        while text not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
