"""Measure speed, memory, parity and quality, and report them."""
