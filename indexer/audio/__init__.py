"""Any audio file as mono samples at 32 kHz.

file, source ◀─ riff ◀─ wav, misread ◀─ ffmpeg ◀─ chain ◀─ decode ◀─ stream ─▶ mixing, resample
"""
