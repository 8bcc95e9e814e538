"""The services of this server: their systemd units, their health and their logs."""
