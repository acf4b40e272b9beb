"""Sounds that lie elsewhere: objects in buckets, and what web servers give."""
