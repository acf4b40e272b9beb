"""Waveforms to embeddings: one network on the cores or GPUs of a machine."""
