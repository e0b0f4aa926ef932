"""Runs from CSV files: the commands predict, propose, recommend, and importers of other formats."""
