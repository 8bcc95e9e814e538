"""The command's root. Sub-commands are imported only when they run, so that each starts as fast as it can.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted; `citadel health` has its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from citadel_llm import __version__

_COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module, attribute, what `citadel --help` says)
    "status": ("citadel_llm.cli.status", "status", "Show services, models and the gateway's readiness."),
    "start": ("citadel_llm.cli.lifecycle", "start", "Start a service, or all of them."),
    "stop": ("citadel_llm.cli.lifecycle", "stop", "Stop a service, or all of them."),
    "restart": ("citadel_llm.cli.lifecycle", "restart", "Restart a service, or all of them one by one."),
    "reload": ("citadel_llm.cli.lifecycle", "reload", "Reload a service, or all that can."),
    "health": ("citadel_llm.cli.health", "health", "Check services, engines, disks, memory and CPU."),
    "logs": ("citadel_llm.cli.logs", "logs", "Show or follow the services' logs."),
    "silence": ("citadel_llm.cli.silence", "silence", "Silence alerts for a time of maintenance."),
    "config": ("citadel_llm.cli.config", "config", "Validate, show, switch, back up and restore settings."),
    "keys": ("citadel_llm.cli.keys", "keys", "Manage API keys."),
    "routing": ("citadel_llm.cli.routing", "routing", "Build, check and show the routing snapshot."),
    "engine": ("citadel_llm.cli.engine", "engine", "Check and probe one engine (used by its unit)."),
    "gateway": ("citadel_llm.cli.gateway", "gateway", "Run the gateway (used by its unit)."),
    "exporter": ("citadel_llm.cli.exporter", "exporter", "Run the exporter of metrics (used by its unit)."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order in which help shows them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command of that name."""
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        from importlib import import_module

        module, attribute, _help = entry
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a name that is nearly one, say which."""
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see citadel --help"
            raise click.UsageError(f"no command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The configuration is in $CITADEL_CONFIG_DIR, else $CITADEL_HOME/config (default /opt/citadel).",
)
@click.version_option(__version__, prog_name="citadel")
def cli() -> None:
    """Operate an LLM server: its engines, its gateway and its settings."""


def run(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. Errors become lines on stderr, never a traceback."""
    try:
        result = cli.main(args=args, prog_name="citadel", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Who read our output has gone. Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    """Say what went wrong: errors of this application carry a message for people, others are its mistakes."""
    if os.environ.get("CITADEL_DEBUG"):
        import traceback

        traceback.print_exc()
    ours = type(error).__module__.startswith("citadel_llm.")
    if ours:
        click.echo("\n".join(f"citadel: {line}" for line in str(error).splitlines()), err=True)
    elif isinstance(error, OSError):
        remedy = ". Run it with sudo, or as the service account" if isinstance(error, PermissionError) else ""
        click.echo(f"citadel: {error.filename or 'error'}: {error.strerror or error}{remedy}", err=True)
    else:
        click.echo(
            f"citadel: internal error: {type(error).__name__}: {error}. CITADEL_DEBUG=1 shows where", err=True
        )
    return 1


def main() -> NoReturn:
    """Entry point of the command."""
    sys.exit(run())


if __name__ == "__main__":
    main()
