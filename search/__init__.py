"""From Parquet to answers: segments, the FAISS index, filters and queries."""
