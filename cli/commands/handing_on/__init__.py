"""Commands that hand a run on: to where other people look, and other programs load it."""
