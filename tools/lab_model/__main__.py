"""Entry point of ``python -m tools.lab_model``."""

from tools.lab_model.cli import main

raise SystemExit(main())
