"""Makes a checkpoint of a recipe's network with random weights: `python -m dbench.campaign.weights RECIPE FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from dbench.core.random_weights import write_random
from dtrain import config


def main(recipe: str, folder: str) -> None:
    write_random(config.load(recipe), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
