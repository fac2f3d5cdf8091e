"""`python -m dexport`, which is the command `dexport`."""

from dexport.cli import main

if __name__ == "__main__":
    main()
