"""Letting the system run the daemon: launchd and systemd."""
