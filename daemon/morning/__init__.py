"""The morning: what became of the jobs since the evening, from files, for a screen or a message."""
