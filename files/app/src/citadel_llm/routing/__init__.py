"""Building the routing snapshot from the configuration and the key file."""
