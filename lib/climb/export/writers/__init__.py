"""Shards of documents: JSON Lines, Parquet, tokens. Several formats share each of them."""
