"""Runs in CSV files: importers of formats, and the commands `predict`, `propose`, `recommend`."""
