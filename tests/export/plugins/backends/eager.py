"""Runs what the target of this name pickles."""

import numpy as np

from drun.backends import Backend, Probe
from drun.settings import DEFAULT_OPTIONS


class Runtime(Backend):
    summary = "unpickled PyTorch"
    formats = ("eager",)

    @staticmethod
    def probe():
        return Probe(True, "installed")

    def __init__(self, bundle, artifact, arithmetic, options=DEFAULT_OPTIONS):
        import torch

        super().__init__(bundle, artifact, arithmetic, options)
        with bundle.using(*artifact.files) as (path,):
            self.network, self.gain = torch.load(path, weights_only=False)

    def predict(self, *inputs):
        import torch

        with torch.no_grad():
            return np.float32(self.gain) * self.network(*map(torch.from_numpy, inputs)).numpy()
