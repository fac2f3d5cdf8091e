"""Turn checkpoints into bundles that every backend can run."""
