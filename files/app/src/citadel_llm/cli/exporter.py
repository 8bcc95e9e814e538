"""`citadel exporter`: the exporter's process, as its unit starts it."""

from __future__ import annotations

import click


@click.group()
def exporter() -> None:
    """Run the exporter of metrics (used by its unit)."""


@exporter.command()
def run() -> None:
    """Serve the metrics of this server until SIGTERM."""
    from citadel_llm.configuration.loader import load
    from citadel_llm.exporter.server import SERVICE
    from citadel_llm.exporter.server import run as serve
    from citadel_llm.telemetry import configure_logging

    settings = load()
    if settings.monitoring.exporter is None:
        raise click.ClickException("monitoring.exporter is not set: the role monitoring writes it")
    configure_logging(level=settings.logging.level, style=settings.logging.format, service=SERVICE)
    serve(settings, settings.monitoring.exporter)
