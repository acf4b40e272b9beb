"""The store: parts of Parquet on disk, the ledger, and the live windows as one table.

disk ─▶ ledger, lock, parquet ─▶ part ─▶ snapshot ─▶ reader (Store), own ─▶ creation, verify,
writer ─▶ compaction
"""
