"""Checkpoint files, whoever wrote them: read without executing anything."""
