"""Removing jobs that have ended, and what only they needed."""
