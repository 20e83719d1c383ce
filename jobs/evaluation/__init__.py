"""An evaluation: the model answers, the answers are scored and reported."""
