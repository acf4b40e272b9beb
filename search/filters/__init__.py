"""Which rows may be hits: tags, expressions, metadata."""
