"""Runs what the target of this name copies."""

from drun.backends import ort


class Runtime(ort.Runtime):
    summary = "a mirror of ONNX Runtime"
    formats = ("mirror",)
    nicknames = {}  # noqa: RUF012
