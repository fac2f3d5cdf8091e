"""The parts that all command lines of the project share.

`app` has the options and the errors, `output` prints, and `reporting` shows progress. Commands and libraries import the
last two from here; only a `cli.py` imports `app`, which brings typer.
"""

from drun.console.output import answer, put, say, warn
from drun.console.reporting import Report, duration, progress, silent

__all__ = ["Report", "answer", "duration", "progress", "put", "say", "silent", "warn"]
