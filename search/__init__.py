"""From Parquet to answers: segments, sketches, filters and queries."""
