"""Health of the services and of the server, as named checks with deadlines, and recovery from failures."""
