"""Read an export with the loader of a trainer, in the interpreter of the trainer.

python run_loader.py LIB MODULE:CLASS FOLDER TOKENS -> JSON: domain -> tokens
"""

import importlib
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path


def import_climb(lib):
    """Make `climb` importable without installing it: only its own modules, no other package."""
    root = Path(lib) / "climb"
    spec = importlib.util.spec_from_file_location(
        "climb", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    sys.modules["climb"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["climb"])


def main(lib, spec, folder, n_tokens):
    import_climb(lib)
    from climb.export.contents import read_contents

    module, name = spec.split(":")
    form = getattr(importlib.import_module(module), name)()
    counts, documents = Counter(), Counter()
    for sample in form.read_samples(Path(folder), read_contents(Path(folder))):
        counts[sample.domain] += sample.tokens
        documents[sample.domain] += 1
        if counts.total() >= int(n_tokens):
            break
    print(json.dumps({"tokens": counts, "samples": documents}))


if __name__ == "__main__":
    main(*sys.argv[1:])
