"""From audio to Parquet: windows, the network, and the store."""

#: More channels are read from no file. It is here because help says it, which loads no NumPy.
MAX_CHANNELS = 128
