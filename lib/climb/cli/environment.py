"""Check the environment variables and the user account on which the start of Spark depends.

A variable that was set for another version of Spark or Python would cause a long traceback.
"""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import subprocess
import sys
from pathlib import Path

from climb.cli.check import Check
from climb.spark.machine import is_utf8_locale

SPARK_JAR = "jars/spark-core_2.13-*.jar"


def check_environment() -> list[Check]:
    """Check the user, the variables of Spark, the character set and HADOOP_CONF_DIR."""
    return [
        check_user(),
        check_spark_home(),
        check_worker_python(),
        check_submit_args(),
        check_charset(),
        check_hadoop_configuration(),
    ]


def check_user() -> Check:
    """Check that the user id has a name: Java's login fails without one."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        fix = (
            f"add a line to /etc/passwd (echo 'climb:x:{uid}:{os.getgid()}::/tmp:/bin/sh' >> "
            "/etc/passwd), or start the container with a user that has a name"
        )
        return Check("user", False, f"user id {uid} has no name, which Spark needs", fix)
    return Check("user", True, name)


def check_spark_home() -> Check:
    """Check that SPARK_HOME, if set, has Spark with the same minor version as PySpark."""
    home = os.environ.get("SPARK_HOME")
    if not home:
        return Check("SPARK_HOME", True, "not set; Spark is in the package pyspark")
    try:
        needed = importlib.metadata.version("pyspark")
    except importlib.metadata.PackageNotFoundError:
        return Check("SPARK_HOME", True, home)
    jars = sorted(Path(home).glob(SPARK_JAR))
    version = jars[-1].stem.removeprefix("spark-core_2.13-") if jars else "no Spark 4"
    found = f"{home} has {version}"
    if version.split(".")[:2] == needed.split(".")[:2]:
        return Check("SPARK_HOME", True, found)
    return Check("SPARK_HOME", False, f"{found}; PySpark is {needed}", "unset SPARK_HOME")


def check_worker_python() -> Check:
    """Check that PYSPARK_PYTHON, if set, has the driver's Python version and can import climb."""
    program = os.environ.get("PYSPARK_PYTHON")
    fix = f"unset PYSPARK_PYTHON, or set it to {sys.executable}"
    if not program or program == sys.executable:
        return Check("PYSPARK_PYTHON", True, program or "not set; workers run this Python")
    code = "import sys, climb; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [program, "-c", code], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("PYSPARK_PYTHON", False, f"{program} does not run: {error}", fix)
    needed = "{}.{}".format(*sys.version_info[:2])
    if done.returncode == 0 and done.stdout.strip() == needed:
        return Check("PYSPARK_PYTHON", True, f"{program} is Python {needed}")
    reason = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no output"])[-1]
    found = f"{program} is not Python {needed} with climb ({reason})"
    return Check("PYSPARK_PYTHON", False, found, fix)


def check_submit_args() -> Check:
    """Check that PYSPARK_SUBMIT_ARGS, if it is set, ends with pyspark-shell."""
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if not arguments:
        return Check("PYSPARK_SUBMIT_ARGS", True, "not set")
    ok = arguments.split()[-1:] == ["pyspark-shell"]
    found = arguments if ok else f"{arguments!r} does not end with pyspark-shell"
    return Check("PYSPARK_SUBMIT_ARGS", ok, found, "unset PYSPARK_SUBMIT_ARGS")


def check_charset() -> Check:
    """Say which character set the JVM gets for file names; this check never fails."""
    if is_utf8_locale():
        return Check("charset", True, "UTF-8")
    return Check("charset", True, "not UTF-8; Spark is started with LC_ALL=C.UTF-8")


def check_hadoop_configuration() -> Check:
    """Say where HADOOP_CONF_DIR points to; this check never fails.

    climb passes local paths to Spark as URIs with the scheme `file`. So Spark opens them on the
    local disk or a mount, even if HADOOP_CONF_DIR configures another file system.
    """
    folder = os.environ.get("HADOOP_CONF_DIR")
    if not folder:
        return Check("HADOOP_CONF_DIR", True, "not set")
    files = sorted(path.name for path in Path(folder).glob("*-site.xml"))
    return Check("HADOOP_CONF_DIR", True, f"{folder} ({', '.join(files) or 'no *-site.xml'})")
