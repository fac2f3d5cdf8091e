"""A command with the targets and backends here: `python plugins dexport mirror BUNDLE`.

`--without MODULE` makes a module one that is not installed.
"""

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    from dexport import targets
    from drun import backends

    targets.__path__.append(str(HERE / "targets"))
    backends.__path__.append(str(HERE / "backends"))
    while "--without" in sys.argv:
        at = sys.argv.index("--without")
        sys.modules[sys.argv[at + 1]] = None
        del sys.argv[at : at + 2]
    package = sys.argv.pop(1)
    import_module(f"{package}.cli").main()
