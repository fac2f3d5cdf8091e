"""PyTorch: runs the programs of torch.export, eagerly or through torch.compile, on a processor or a GPU.

Loading such a file can execute code that it carries, so it is opened on trust only: see `drun.trust`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drun import cache, trust
from drun.backends import Backend, Probe, Signature, check_signature
from drun.bundle.artifact import Artifact
from drun.bundle.reading import Bundle
from drun.console import log_level
from drun.diffusion.arrays import Labels, State
from drun.diffusion.guidance import Guidance
from drun.diffusion.loop import Observer, walk
from drun.diffusion.noise import NoiseSource
from drun.diffusion.table import StepTable
from drun.errors import BackendUnavailable, BundleError, ConfigError, DeviceUnavailable, door, reason
from drun.extras import is_installed
from drun.settings import DEFAULT_OPTIONS, RuntimeOptions
from drun.version import version_of

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install 'dexport[pt2]'"
#: This file exists where NVIDIA's driver runs. PyTorch itself takes a second to say whether it finds a GPU.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
#: The one cache entry for everything that torch.compile makes: PyTorch computes its own keys within it.
COMPILED = hashlib.sha256(b"torch.compile").hexdigest()
#: Threads and precisions are PyTorch's of the whole process: one program at a time has them as it needs.
SETTINGS_LOCK = threading.RLock()


class Runtime(Backend):
    summary = "PyTorch, a torch.export program"
    formats = ("pt2",)
    devices = ("cpu", "cuda", "mps")
    can_compile = True
    nicknames = dict.fromkeys(("torch", "pytorch"), "pt2")

    @staticmethod
    def probe() -> Probe:
        if not is_installed("torch"):
            return Probe(False, "torch is not installed", INSTALL)
        return Probe(True, f"torch {version_of('torch')}", INSTALL)

    @staticmethod
    def import_library() -> None:
        import torch  # noqa: F401

    @classmethod
    def arithmetics(cls, artifact: Artifact, device: str | None = None) -> tuple[str, ...]:
        """bf16 is computed by autocast: operations that need float32 in PyTorch's view stay in float32."""
        has_cuda = NVIDIA_DRIVER.exists() and not version_of("torch").endswith("+cpu")
        return ("fp32", "bf16", "tf32") if has_cuda and device in (None, "cuda") else ("fp32", "bf16")

    def __init__(
        self, bundle: Bundle, artifact: Artifact | None, arithmetic: str, options: RuntimeOptions = DEFAULT_OPTIONS
    ) -> None:
        super().__init__(bundle, artifact, arithmetic, options)
        assert artifact is not None
        program = _load(bundle, artifact, options)
        self.device = _device(options.device)
        if arithmetic == "tf32" and self.device != "cuda":
            raise ConfigError(f"--precision got tf32, {self.device} has none: use fp32, or --device cuda")
        self.network = network_on(program, self.device, options.compile)

    def describe(self) -> str:
        return f"{'compiled ' if self.options.compile else ''}PyTorch on {self.device.upper()}"

    def predict(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        with self._computing():
            out: NDArray[np.float32] = self._call(*map(self._put, inputs)).cpu().numpy()
        return out

    def walk(
        self,
        table: StepTable,
        x: State,
        labels: Labels | None,
        guidance: Guidance,
        noise: NoiseSource,
        observer: Observer,
    ) -> State:
        """As `Backend.walk`, on tensors that stay on the device for the whole table.

        The host waits for the device only at rows whose states the observer asks for, and where states are tested to be
        finite.
        """
        if self.device == "mps" and x.dtype == np.float64:  # the device has no float64
            return super().walk(table, x, labels, guidance, noise, observer)
        with self._computing():
            return walk(self._denoise, table, x, labels, guidance, noise, observer, put=self._put)

    def _denoise(self, x: Tensor, t: float, labels: Tensor | None) -> Tensor:
        x = x.float()
        times = x.new_full((len(x),), t)
        return self._call(x, times) if labels is None else self._call(x, times, labels)

    def _call(self, *inputs: Tensor) -> Tensor:
        """One call of the program on its input tensors -> its output, (N, ...) float32."""
        try:
            out: Tensor = self.network(*inputs).float()
            return out
        except Exception as error:
            raise BackendUnavailable(f"PyTorch failed on a batch of {len(inputs[0])}: {reason(error)}") from error

    def _put(self, array: NDArray[Any]) -> Tensor:
        """Move an array to the device; on the processor without a copy."""
        import torch

        if self.device != "cuda":
            return torch.from_numpy(array).to(self.device)
        # From any other memory the host would wait for all work so far. PyTorch keeps this copy until it was read.
        return torch.from_numpy(array).pin_memory().to(self.device, non_blocking=True)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Set PyTorch's settings of this process as the options say, and restore them at the end."""
        import torch

        is_tf32 = self.arithmetic == "tf32"
        with SETTINGS_LOCK, ExitStack() as settings:
            settings.enter_context(torch.inference_mode())
            settings.enter_context(torch.autocast(self.device, torch.bfloat16, enabled=self.arithmetic == "bf16"))
            if self.options.threads:
                settings.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(self.options.threads)
            if self.device == "cuda":
                cudnn = torch.backends.cudnn.flags(True, benchmark=False, deterministic=True, allow_tf32=is_tf32)
                settings.enter_context(cudnn)
                matmul = torch.backends.cuda.matmul
                settings.callback(setattr, matmul, "allow_tf32", matmul.allow_tf32)
                matmul.allow_tf32 = is_tf32
            yield

    def close(self) -> None:
        """Its memory goes back to the device, which other programs share, too."""
        import torch

        del self.network
        if self.device != "cpu":
            getattr(torch, self.device).empty_cache()


def _load(bundle: Bundle, artifact: Artifact, options: RuntimeOptions) -> Any:
    """The `torch.export.ExportedProgram` of an artifact.

    Raises:
        NotTrusted: the user has not allowed to execute the code that it may carry. BundleError: it is damaged, or
        another network than the manifest says. BackendUnavailable: it cannot be opened.
    """
    entry = artifact.files[0]
    path = bundle.locate(entry)
    trust.check(path, entry.sha256, options.trust)
    program = _deserialized(path, bundle.content(entry))
    with door(f"'{path}' is not the manifest's network", BundleError, "export again"):
        check_signature(artifact, path, _signature(program, artifact))
    return program


def _deserialized(path: Path, content: bytes) -> Any:
    """The program in the very bytes that were hashed. Raises BackendUnavailable if they are not a program that PyTorch
    reads."""
    try:
        import torch
    except (ImportError, OSError) as error:  # of a library that it needs
        raise BackendUnavailable(
            f"torch is installed but does not load ({reason(error)}); install it with: {INSTALL}"
        ) from error
    try:
        with log_level("torch.export", logging.CRITICAL):  # it also raises what it logs with a traceback
            return torch.export.load(io.BytesIO(content))
    except Exception as error:
        raise BackendUnavailable(f"PyTorch {torch.__version__} cannot open '{path}': {reason(error)}") from error


def _signature(program: Any, artifact: Artifact) -> Signature:
    """The inputs and outputs under the manifest's names: in a program only their order counts."""
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    values = [nodes[name] for name in (*program.graph_signature.user_inputs, *program.graph_signature.user_outputs)]
    names = [tensor.name for tensor in artifact.io] + [f"another {i}" for i in range(len(values) - len(artifact.io))]
    return {
        name: (str(value.dtype).removeprefix("torch."), tuple(_side(side) for side in value.shape))
        for name, value in zip(names, values, strict=False)
    }


def _side(side: Any) -> int | str:
    return side if isinstance(side, int) else str(side)


def _device(asked: str | None) -> str:
    """Raises DeviceUnavailable if this machine does not have it."""
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name, is_here in found.items() if is_here]
    if asked not in (None, *here):
        raise DeviceUnavailable(f"--device got {asked}, PyTorch {torch.__version__} has here: {', '.join(here)}")
    return asked or here[0]


def network_on(program: Any, device: str, is_compiled: bool) -> Any:
    """A `torch.export.ExportedProgram` as a function of tensors on a device."""
    import torch
    from torch.export.passes import move_to_device_pass

    network = (program if device == "cpu" else move_to_device_pass(program, device)).module()
    if not is_compiled:
        return network
    # Without this, compiled code lies in a folder with a foreseeable name, and is loaded from there again.
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache.folder_of(COMPILED, "what torch.compile makes"))
    # A run has two batches, N and, with guidance, 2 N: a graph for any batch would be slower for both.
    return torch.compile(network, dynamic=False)
