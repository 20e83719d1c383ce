"""Sweeps: one process that asks a sampler what to try, and keeps a few jobs on the queue."""
