"""Commands that hand on what was trained: to other people and other programs."""
