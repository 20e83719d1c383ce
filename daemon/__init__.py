"""The queue and what stands behind it: job store, worker, child processes, embedded server."""
