"""Several machines on one Redis: whose a job is, and who may take it over."""
