"""A folder that refuses one kind of file operation, as mounts of object stores do, in Python.

It needs no compiler. `mount.c` refuses the same in native code too, such as safetensors.
"""

import builtins
import io
import os
from pathlib import Path


class HostileMount:
    """Patches `os` and `open` for paths below a folder.

    Files below it that were opened for writing by `open` are in `bypassed`: what happens to them in
    C cannot be refused here.
    """

    def __init__(self, monkeypatch, folder, call, number):
        self.folder, self.call, self.number = str(folder), call, number
        self.bypassed, self.refused, self.steps = [], 0, 0
        names = "open write fsync replace rename link unlink mkdir ftruncate truncate chmod fchmod"
        self._real = {name: getattr(os, name) for name in (*names.split(), "pwrite")}
        for name, function in self._real.items():
            monkeypatch.setattr(os, name, self._wrap(name, function))
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self._wrap_open(module.open))

    def _contains(self, path):
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        return os.fspath(path).startswith(f"{self.folder}/")

    def _wrap(self, name, function):
        def wrapped(*args, **kwargs):
            paths = args[:2] if name in ("replace", "rename", "link") else args[:1]
            if any(self._contains(path) for path in paths):
                self.on_step()
                if self._is_refused(name, args):
                    self.refused += 1
                    raise OSError(self.number, os.strerror(self.number), str(paths[0]))
            return function(*args, **kwargs)

        return wrapped

    def on_step(self):
        """Count an operation; tests replace it to kill the process at one of them."""
        self.steps += 1

    def _is_refused(self, name, args):
        call = {"replace": "rename", "link": "rename", "ftruncate": "truncate", "fchmod": "chmod"}
        kinds = {call.get(name, name)}
        if name == "open" and args[1] & os.O_APPEND:
            kinds.add("append")
        if name == "open" and args[1] & os.O_TRUNC:
            kinds.add("truncate")
        if name == "write" and os.lseek(args[0], 0, os.SEEK_CUR) != os.fstat(args[0]).st_size:
            kinds.add("seek")
        if name == "pwrite":
            kinds.add("seek")
        known = {"fsync", "rename", "truncate", "append", "seek", "chmod"}
        return bool(kinds & known) if self.call == "all" else self.call in kinds

    def _wrap_open(self, function):
        def wrapped(file, mode="r", *args, **kwargs):
            if not isinstance(file, int) and set(mode) & set("wax+") and self._contains(file):
                self.bypassed.append(Path(file))
            return function(file, mode, *args, **kwargs)

        return wrapped
