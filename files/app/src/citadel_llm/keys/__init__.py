"""API keys on the server: made here, kept as hashes, handed to the gateway through the routing snapshot."""
