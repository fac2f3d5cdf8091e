"""Turn checkpoints into bundles that every backend can run."""

from drun.version import version_attribute

__version__: str
__getattr__ = version_attribute(__name__)
