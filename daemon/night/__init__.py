"""This machine at night: its settings, power and heat, the display, other programs on the GPU."""
