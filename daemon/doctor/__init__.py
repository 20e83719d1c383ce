"""``farense doctor``: whether anything is in the way of a preset."""
