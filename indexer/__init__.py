"""From audio to Parquet: windows, the network, and the store."""
