"""Proxy training and the search: setup, trials, shards, lineage, search, target models."""
