"""Channels to one, and what is found out on the way: their level, and the digest of their samples.

level ◀─ channels    digest
"""
