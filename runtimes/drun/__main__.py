"""`python -m drun`, which is the command `drun`."""

from drun.cli import main

if __name__ == "__main__":
    main()
