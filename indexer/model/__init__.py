"""The network: what it computes, where its weights come from, and loading them without trust.

download ─▶ known ─▶ checkpoint ◀─ convnext
"""
