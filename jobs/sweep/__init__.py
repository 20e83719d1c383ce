"""Sweeps: what to try, what became of it, what time is left. Pure; knows no sampler."""
