"""The records in Redis: jobs, events, workers, dead letters."""
