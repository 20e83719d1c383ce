"""From a preset to an accepted job: checks, frozen data, run directory, record, message."""
