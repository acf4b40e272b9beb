"""Published sets of sounds: which of their clips a store has, and what may be measured on them."""
