"""Telling a person what matters: addresses, messages, an outbox, and the process that sends."""
