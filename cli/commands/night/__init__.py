"""Commands about the night: who is told, and how it goes."""
