"""The commands of `farense`, a module each."""
