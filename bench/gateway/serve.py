"""The gateway as servers run it, from a file of settings. Run with the application's own environment.

On SIGUSR1 it writes the number of its tasks into the file that is named second.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from types import FrameType

from citadel_llm.gateway.server import SERVICE, run
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.telemetry import configure_logging


def main() -> None:
    settings = GatewaySettings.model_validate_json(Path(sys.argv[1]).read_bytes())
    counts = Path(sys.argv[2])

    def tell(_number: int, _frame: FrameType | None) -> None:
        counts.write_text(str(len(asyncio.all_tasks())))

    signal.signal(signal.SIGUSR1, tell)
    configure_logging(service=SERVICE, style="json", stream=sys.stdout)
    run(settings)


if __name__ == "__main__":
    main()
