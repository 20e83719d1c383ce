"""Run directories on disk: where a job is, whether its files are whole, who holds its locks."""
