"""Run the jobs of the pipeline in order, in one Spark session.

ingest -> count -> embed -> score -> cluster -> prune -> pack -> base -> search -> mix
-> target_base -> train -> report

Rerun it at any time: every job computes only what is missing.
"""

from climb.cli.start import PIPELINE, import_jobs, run_script

if __name__ == "__main__":
    run_script(import_jobs(PIPELINE), skip=True)
