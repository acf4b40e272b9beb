"""Files that other people's code reads: captions joined with embeddings, one module per form."""
