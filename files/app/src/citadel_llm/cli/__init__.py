"""The `citadel` command, by which people and units operate a server."""
