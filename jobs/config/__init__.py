"""What a training run is told: presets, config files, overrides, and the steps they make."""
