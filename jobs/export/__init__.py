"""A trained adapter in the forms in which other programs load it."""
