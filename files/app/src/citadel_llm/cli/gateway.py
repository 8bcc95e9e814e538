"""`citadel gateway`: the gateway's process, as its unit starts it."""

from __future__ import annotations

import click


@click.group()
def gateway() -> None:
    """Run the gateway (used by its unit)."""


@gateway.command()
def run() -> None:
    """Serve the API until SIGTERM; SIGHUP reloads the routing snapshot."""
    from citadel_llm.configuration.loader import load
    from citadel_llm.gateway.server import SERVICE
    from citadel_llm.gateway.server import run as serve
    from citadel_llm.telemetry import configure_logging

    settings = load()
    configure_logging(level=settings.logging.level, style=settings.logging.format, service=SERVICE)
    serve(settings.api_gateway, expose_metrics=settings.metrics.enabled)
