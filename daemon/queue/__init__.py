"""Redis and Huey: connections, the embedded server, messages and their order."""
