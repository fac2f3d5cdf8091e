"""One thread a test process: the nets are tiny, and pytest-xdist already uses the cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
