"""The jobs: each reads tables, calls the library, and writes tables."""
