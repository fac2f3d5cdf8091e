"""`python -m dtrain`, and `accelerate launch -m dtrain`, which starts several of them."""

from dtrain.cli import main

if __name__ == "__main__":
    main()
