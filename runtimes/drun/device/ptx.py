"""The kernel as PTX, which a driver compiles for its own GPU, so that a machine needs no compiler.

After a change of step.cu, `python -m drun.device.ptx` compiles it anew. The oldest NVRTC that is supported should do
that, because a driver reads what older compilers wrote, and not what newer ones did:
pip install nvidia-cuda-nvrtc-cu12==12.0.140 'cuda-bindings<13'
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from drun.errors import BackendUnavailable

SOURCE = Path(__file__).with_name("step.cu")
SHIPPED = SOURCE.with_suffix(".ptx")
#: Turing and all that came after it.
ARCHITECTURE = "compute_75"
#: Multiply and add are rounded one after the other, as on the host.
OPTIONS = (f"--gpu-architecture={ARCHITECTURE}", "--fmad=false", "--std=c++17")


def header() -> str:
    """The first line of the shipped PTX, which names its source."""
    return f"// of {SOURCE.name}, sha256 {hashlib.sha256(SOURCE.read_bytes()).hexdigest()}\n"


def compiled() -> str:
    """The PTX that the installed NVRTC makes of the kernel. Raises BackendUnavailable if it does not compile."""
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], [])
    (result,) = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), [option.encode() for option in OPTIONS])
    if int(result):
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytearray(size)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise BackendUnavailable(f"{SOURCE.name} does not compile: {log.rstrip(bytes(1)).decode()}")
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx.rstrip(bytes(1)).decode()


if __name__ == "__main__":
    SHIPPED.write_text(header() + compiled())
