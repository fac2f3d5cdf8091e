"""The parts that all command lines of the project share.

`app` has the options and the errors, `output` prints, and `reporting` shows progress. Commands and libraries import the
last two from here; only a `cli.py` imports `app`, which brings typer.
"""

from drun.console.output import answer, log_level, put, say, warn
from drun.console.reporting import Report, duration, progress, silent

__all__ = ["Report", "answer", "duration", "log_level", "progress", "put", "say", "silent", "warn"]
