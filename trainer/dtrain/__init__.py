"""Train diffusion models in PyTorch."""

from drun.version import version_attribute

__version__: str
__getattr__ = version_attribute(__name__)
