"""Commands of the repository that run on the controller; nothing of them is shipped to a server."""
