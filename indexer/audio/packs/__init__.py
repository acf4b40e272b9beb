"""Sounds that are no files of their own: the members of a pack, named as in `eval.h5!/Yid.wav`."""
