"""Files, locks and plain values: what every other room stands on."""
