"""Searchers: the default (ucb), and published methods to compare it with."""
