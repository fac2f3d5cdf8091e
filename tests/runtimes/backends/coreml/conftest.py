"""A Mac that is none, and a bundle with a Core ML package."""

from coreml_fixtures import bundle, mac, written

__all__ = ["bundle", "mac", "written"]
