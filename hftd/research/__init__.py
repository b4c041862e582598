"""Market data for research: the feed's normalised events, and what they say, as Parquet files."""
