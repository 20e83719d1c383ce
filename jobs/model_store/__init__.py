"""Base models: getting, checking and listing them."""
