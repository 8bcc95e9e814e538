"""What is watched, as code: metrics, rules, dashboards. `python -m tools.observability` writes the files."""
