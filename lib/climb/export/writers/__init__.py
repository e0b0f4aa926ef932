"""Writers of shards: JSON Lines, Parquet, MDS and token ids. The formats use them."""
