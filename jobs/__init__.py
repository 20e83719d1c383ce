"""What a job does, runnable alone: ``python -P -m jobs <run directory>``.

This package knows neither Redis, Huey nor Click: everything it needs comes from the run directory,
and everything it has to say goes into files there and into the job's log.
"""
