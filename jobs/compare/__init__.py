"""Two runs side by side: figures, differences that may be chance, and what to decide."""
