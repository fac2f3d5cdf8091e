"""`python -m dbench`, which is the command `dbench`."""

from dbench.cli import main

if __name__ == "__main__":
    main()
