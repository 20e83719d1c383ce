"""The model of a job: loaded, cut at its boundary, adapted."""
