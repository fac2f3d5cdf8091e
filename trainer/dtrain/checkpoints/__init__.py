"""Checkpoint files of any origin, which are read without executing anything."""
