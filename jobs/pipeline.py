"""Run every job in order, in one Spark session.

ingest -> count -> embed -> score -> cluster -> prune -> pack -> search -> mix -> train -> report

Rerun it at any time: every job does only what is missing.
"""

from climb.run import PIPELINE, main_of, named

if __name__ == "__main__":
    main_of(named(PIPELINE))
