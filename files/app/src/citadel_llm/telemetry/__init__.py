"""Logs, metrics and the service manager's protocol. It imports nothing else of the package."""

from citadel_llm.telemetry.logs import configure_logging, get_logger, set_level
from citadel_llm.telemetry.redaction import redact, redact_text

__all__ = ["configure_logging", "get_logger", "redact", "redact_text", "set_level"]
