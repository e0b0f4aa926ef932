"""Which jobs have nothing to do, decided before any JVM starts.

    verdict = check_job("pack", cfg)      # is_done, and why
    with record_job("pack", cfg) as job:  # around a run of the job
        job.text = ...

A job decides inside itself, in Spark, what it has to do. This package never repeats that decision.
It only checks whether anything that the job reads or writes has changed since its last complete
run: its settings and models, its input files, the tables that it used, the files that it wrote, and
the code. All these parts together are the state of a job. `state.describe_state` describes the
state, both for the record of a job and for the check. A part that cannot be read counts as changed:
the job runs and decides itself.

delta_log  the newest change of a Delta table, from its log alone
state      what a job depends on
records    the state at the end of a job, in a file; the comparison with the state now
plan       what a whole run would do
"""
