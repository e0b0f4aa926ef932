"""Runs from CSV files: importers of formats, and the commands predict, propose and recommend."""
