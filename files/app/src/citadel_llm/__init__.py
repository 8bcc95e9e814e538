"""The application of Citadel: the gateway in front of LLM engines, and the command that operates a server."""

__version__ = "0.1.0"
