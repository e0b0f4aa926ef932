"""Tests of what a platform supports, because the documentation of platforms is incomplete."""
