"""The ``farense`` command: parse, call, render."""
