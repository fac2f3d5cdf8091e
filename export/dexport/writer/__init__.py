"""A bundle appears under its name only when it is complete and has passed its own proof.

`create.create_bundle` exports a checkpoint, into a new bundle or as one more artifact of its own. `add.add_artifact`
derives an artifact from a bundle alone, and imports no PyTorch.
"""
