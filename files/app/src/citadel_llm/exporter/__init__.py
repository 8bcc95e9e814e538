"""The project's own exporter: what the other exporters of a server do not tell."""
