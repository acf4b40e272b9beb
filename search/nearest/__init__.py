"""Which rows are nearest: exactly, or by sketches; FAISS is used here and nowhere else."""
