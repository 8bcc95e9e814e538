"""What is watched, as code: metrics, rules, alerts and dashboards. `python -m tools.observability` writes them."""
