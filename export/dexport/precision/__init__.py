"""Networks in fp16 and bf16 with islands of float32, written in modules, so that every cast has its place.

Values enter and leave in float32. A layer with weights that is no island takes its input in the low precision and gives
it on; what lies between the layers follows its inputs. So a sinusoid of the time is computed in float32 by itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from dexport.lint import Places
from dexport.precision.islands import KEPT, RESIDUALS, STATISTICS, WEIGHTED, last_layer
from dexport.precision.layers import Island, Low
from dexport.precision.scan import check_calls, check_weights

#: precision -> the dtype of its parameters and arithmetic
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
#: The precision whose range is smaller than that of float32.
LIMITED = "fp16"


def lowered(network: nn.Module, precision: str) -> nn.Module:
    """A copy of a deployable float32 network that computes in `precision`, its inputs and outputs in float32.

    Parameters of islands stay float32, and are the same tensors. For fp32 it is the network itself.
    """
    if precision not in DTYPES:
        return network
    dtype, wide = DTYPES[precision], _wide_parameters(network)
    parameters = {id(own): own if id(own) in wide else _narrow(own, dtype) for own in network.parameters()}
    low = copy.deepcopy(network, parameters)
    _wrap(low, dtype, last_layer(low))
    # A family without a known last layer ends in the low precision.
    low.register_forward_hook(lambda _, inputs, out: out.to(torch.float32))
    return low


def check_range(network: nn.Module, calls: Sequence[tuple[Tensor, ...]]) -> None:
    """Look for numbers of a deployable float32 network that fp16 cannot hold.

    Args:
        calls: inputs of the network from real trajectories.

    Raises:
        ExportError: a weight, or a number that it computes on these inputs.
    """
    check_weights(network, lowered(network, LIMITED))
    # bf16 has the range of float32. What is bf16 in this network would be fp16 in the other, and does not overflow.
    check_calls(lowered(network, "bf16"), calls)


def _narrow(parameter: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(dtype), requires_grad=False)


def _wide_parameters(network: nn.Module) -> set[int]:
    """The parameters that stay float32, by identity: those of islands, and those added to a residual stream."""
    islands, last = (*STATISTICS, *KEPT), last_layer(network)
    wide = [module for module in network.modules() if isinstance(module, islands) or module is last]
    adding = [module for module in network.modules() if isinstance(module, RESIDUALS)]
    parameters = [own for module in wide for own in module.parameters()]
    parameters += [own for module in adding for own in module.parameters(recurse=False)]
    return {id(own) for own in parameters}


def _wrap(module: nn.Module, dtype: torch.dtype, last: nn.Module | None) -> None:
    for name, child in module.named_children():
        if isinstance(child, KEPT) or child is last:
            setattr(module, name, Island(child, torch.float32))
        elif isinstance(child, STATISTICS):
            setattr(module, name, Island(child, dtype))
        elif isinstance(child, WEIGHTED):
            setattr(module, name, Low(child, dtype))
        else:
            _wrap(child, dtype, last)


def places(low: nn.Module) -> Places:
    """The modules of a `lowered` network where float32 and casts are expected."""
    modules = dict(low.named_modules())
    islands = {name for name, module in modules.items() if isinstance(module, Island)}
    return Places(islands, {name for name, module in modules.items() if isinstance(module, (Low, *RESIDUALS))})


def summary(low: nn.Module, met: Collection[str]) -> list[str]:
    """The islands of a `lowered` network, with `*` for the numbers of blocks, such as `blocks.*.norm1`.

    met: the names of the modules that the graph has; of a network that was split it lacks some.
    """
    # A stage of a split network holds it under the name `network`.
    modules = {name: module for name, module in low.named_modules() if name not in ("", "network")}
    islands = [name for name, module in modules.items() if isinstance(module, Island) and name in met]
    adding = [name for name, module in modules.items() if isinstance(module, RESIDUALS)]
    adding = [name for name in adding if any(one.startswith(f"{name}.") for one in met)]
    patterns = [re.sub(r"\b\d+\.", "*.", name.removeprefix("network.")) for name in islands]
    patterns += ["residuals of " + re.sub(r"\b\d+\b", "*", name.removeprefix("network.")) for name in adding]
    return list(dict.fromkeys(patterns))
