"""Which rows are nearest: exactly, or by lists; FAISS is used here and nowhere else."""
