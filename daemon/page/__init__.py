"""The page to watch: farense ui, a local server that reads as commands do and holds no state."""
