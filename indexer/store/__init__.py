"""The store: parts of Parquet on disk, the ledger, and the live windows as one table.

disk ─▶ ledger, part ─▶ snapshot ─▶ reader (Store) ─▶ creation, verify, writer
─▶ compaction
"""
