"""Tests of what a platform supports, run on the platform, as its documentation is incomplete."""
