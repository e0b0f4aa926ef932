"""The console script `climb`, the start of a job, and the checks before a run."""
