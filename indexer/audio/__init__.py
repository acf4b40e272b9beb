"""Any audio file as mono samples at 32 kHz.

file, source ◀─ ffmpeg ◀─ decode ◀─ stream ─▶ mixing, resample
"""
