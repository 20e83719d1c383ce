"""Memory and disk: what a run will take, and what to do where it does not fit."""
