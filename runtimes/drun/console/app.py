"""A command line: the options that every command has, and errors that are printed as one sentence."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from drun.console.output import OUTPUT, command_output, fail
from drun.errors import OS_ADVICE, Interrupted, UserError

#: Exit code of a command stopped by Ctrl-C; typer turns the exception into it without a word.
INTERRUPTED = 130
#: Exit code of a command stopped by SIGTERM, as shells count it.
TERMINATED = 143
#: Title of the shared options in --help.
PANEL = "Options of every command"


# ---- shared options -------------------------------------------------------------------------------------


class ConsoleGroup(TyperGroup):
    """The commands of an app. The app and each command take the shared options, so that these may stand anywhere."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        shared = _shared_options()
        for command in (self, *self.commands.values()):
            command.params = [*command.params, *shared]


def new_app(name: str, help: str, group: type[ConsoleGroup] = ConsoleGroup) -> typer.Typer:
    """An app without commands. Without arguments it shows its help; -h is --help; shells can complete it.

    Args:
        name: the name of the command, such as drun.
        group: the class that finds a command by its first word.
    """
    return typer.Typer(
        name=name,
        cls=group,
        help=help,
        callback=_shared,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _shared() -> None:
    """The callback of an app, which does nothing: with a callback, typer makes a group even of a single command."""


def _shared_options() -> list[Any]:
    """The shared options, made by typer from a function's parameters.

    Their callbacks act, so that no command sees them.
    """
    app = typer.Typer(add_completion=False)
    app.command()(_declared)
    return get_command(app).params


def _option(flag: str, callback: Callable[..., None], help: str, is_eager: bool = False) -> Any:
    return typer.Option(
        flag, callback=callback, is_eager=is_eager, expose_value=False, help=help, rich_help_panel=PANEL
    )


def _sets(name: str) -> Callable[[bool], None]:
    """The callback of a shared option. An option before a command stays set although it is absent after the command."""
    return lambda given: setattr(OUTPUT, name, given or getattr(OUTPUT, name))


def _show_version(context: typer.Context, given: bool) -> None:
    if given and not context.resilient_parsing:
        from drun.version import VERSION

        typer.echo(f"{context.find_root().command.name} {VERSION}")
        raise typer.Exit


def _declared(
    quiet: Annotated[bool, _option("--quiet", _sets("quiet"), "Print only warnings and errors.")] = False,
    json: Annotated[bool, _option("--json", _sets("json"), "Print one JSON document instead of text.")] = False,
    debug: Annotated[bool, _option("--debug", _sets("debug"), "Show the traceback of an error.")] = False,
    version: Annotated[bool, _option("--version", _show_version, "Print the version and exit.", True)] = False,
) -> None:
    """Declares the shared options; typer reads its parameters."""


# ---- errors ---------------------------------------------------------------------------------------------


def run_app(app: Callable[[], Any], extra: str | None = None) -> None:
    """Run a typer app: user errors become one line on stderr and their exit code; `--debug` shows the traceback.

    SIGTERM ends it as Ctrl-C does, so that temporary files are removed.

    Args:
        extra: the extra of this package that installs the libraries of the app's commands, such as train.
    """
    signal.signal(signal.SIGTERM, _terminate)
    with command_output() as output:
        try:
            app()
        except Interrupted as stop:
            fail(str(stop), stop.exit_code)
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and stop.code not in (INTERRUPTED, TERMINATED):
                raise
            code = TERMINATED if isinstance(stop, SystemExit) and stop.code == TERMINATED else INTERRUPTED
            fail("interrupted: the same command goes on from what was finished", code)
        except (UserError, OSError, MemoryError, ImportError) as error:
            if output.debug:
                raise
            fail(_message(error, extra), error.exit_code if isinstance(error, UserError) else 1)


def _terminate(number: int, frame: object) -> None:
    sys.exit(TERMINATED)


def _message(error: Exception, extra: str | None) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in OS_ADVICE:
        name = f" at '{error.filename}'" if error.filename else ""
        return f"{error.strerror}{name}: {OS_ADVICE[error.errno]}"
    if isinstance(error, ImportError):
        from drun.extras import install_line  # here: reading metadata would make every start slower

        if line := install_line(error.name or "", extra):
            return f"this command needs {str(error.name).partition('.')[0]}: {line}"
        return f"a library cannot be loaded ({error}): install it again, or give the command more memory"
    return str(error) or "out of memory: lower the batch size"
