"""Text and sound in one space: what is learnt from captions, and what it makes of a store."""
