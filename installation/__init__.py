"""Puts the roles on a machine as services of systemd, renews them and takes them off again."""
