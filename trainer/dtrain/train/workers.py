"""The processes and devices of a run: what Hugging Face accelerate does for us, behind the words of the training loop.

A plain `dtrain run` is one process. Under `accelerate launch -m dtrain run` (or torchrun) each process has a device of
its own, and DDP, or FSDP if accelerate is configured so, joins their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

from drun.errors import ConfigError, UserError
from drun.run.images import UInt8
from dtrain.checkpoints.fit import check_optimizer, check_scaler
from dtrain.device import Placement
from dtrain.train.ema import whole

ACCELERATE_NAMES = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
#: How many steps in a row fp16 may skip while it looks for a scale of the loss.
MAX_SKIPPED = 50

Value = TypeVar("Value")


class _NoLog:
    def write(self, step: int, **scalars: float) -> None: ...
    def picture(self, step: int, image: UInt8) -> None: ...


class Workers:
    """The processes of this run, seen from one of them."""

    def __init__(self, placement: Placement) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state()  # of an earlier run in this process, which may have had another precision
        self.accelerator = Accelerator(
            mixed_precision=ACCELERATE_NAMES[placement.precision],
            cpu=placement.device.type == "cpu",
            step_scheduler_with_optimizer=False,
        )
        self.device = placement.device
        self.compile = placement.compile
        self.count, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.num_skipped = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return bool(self.rank == 0)

    @property
    def scales_loss(self) -> bool:
        """Whether fp16's overflows skip steps. A fused optimizer would skip them silently."""
        return self.accelerator.scaler is not None

    def no_log(self) -> AbstractContextManager[Any]:
        """A log for the other processes, which writes nothing."""
        return nullcontext(_NoLog())

    def wait(self) -> None:
        """Wait until every process has come here."""
        self.accelerator.wait_for_everyone()

    def first_then_others(self, work: Callable[[], Value]) -> Value:
        """Let the first process fill caches that the others then find."""
        with self.accelerator.main_process_first():
            return work()

    def parts(self, batch_size: int, accumulate: int) -> list[slice]:
        """The images of a batch that this process computes, in `accumulate` equal parts.

        Raises:
            ConfigError: the batch cannot be divided so.
        """
        size, rest = divmod(batch_size, self.count * accumulate)
        if rest or not size:
            raise ConfigError(
                f"train.batch_size got {batch_size}, expected a multiple of {self.count} processes times "
                f"train.accumulate = {accumulate}"
            )
        start = self.rank * size * accumulate
        return [slice(start + i * size, start + (i + 1) * size) for i in range(accumulate)]

    def prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Distribute a module and its optimizer."""
        prepared: tuple[nn.Module, Any] = self.accelerator.prepare(module, optimizer)
        return prepared

    def bare(self, module: nn.Module) -> nn.Module:
        """The module without the wrapper that distributes it."""
        bare: nn.Module = self.accelerator.unwrap_model(module, keep_torch_compile=False)
        return bare

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in this run's precision.

        On processors the gradient of PyTorch's fused attention is up to eight times as slow in bf16 as that of its
        parts: bf16 takes the parts.
        """
        in_parts = self.device.type == "cpu" and self.accelerator.mixed_precision == "bf16"
        with self.accelerator.autocast(), sdpa_kernel(SDPBackend.MATH) if in_parts else nullcontext():
            yield

    def synchronised(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Join the gradients of all processes only after the last part of a batch."""
        return nullcontext() if last else self.accelerator.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, module: nn.Module, limit: float) -> Tensor:
        """Clip the gradient to a norm of `limit`, and return the norm before."""
        norm = self.accelerator.clip_grad_norm_(module.parameters(), limit)
        return whole(norm) if norm is not None else torch.zeros(())

    def step(self, optimizer: Any) -> bool:
        """Step and clear the gradients. False if fp16 met an overflow and skipped the step.

        Raises:
            UserError: it skips on and on.
        """
        optimizer.step()
        skipped = bool(optimizer.step_was_skipped)
        optimizer.zero_grad()
        self.num_skipped = self.num_skipped + 1 if skipped else 0
        if self.num_skipped > MAX_SKIPPED:
            raise UserError(
                f"fp16 overflowed {MAX_SKIPPED} times in a row: training stopped, the last checkpoint is from before; "
                "train in bf16 or fp32"
            )
        return not skipped

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        mean: Tensor = self.accelerator.reduce(values, "mean")
        return mean

    def whole_state(self, module: nn.Module) -> dict[str, Tensor]:
        """The state dict with sharded tensors gathered."""
        return {name: whole(tensor) for name, tensor in module.state_dict().items()}

    def optimizer_state(self, module: nn.Module, optimizer: Any) -> dict[str, Any]:
        """The optimizer's state as whole tensors by the names of the parameters, for any number of processes."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=self.count > 1)
        return dict(get_optimizer_state_dict(module, optimizer.optimizer, options=options))

    def scaler_state(self) -> dict[str, Any]:
        return {} if self.accelerator.scaler is None else dict(self.accelerator.scaler.state_dict())

    def load_optimizer(
        self, module: nn.Module, optimizer: Any, state: dict[str, Any], scaler: dict[str, Any], name: str
    ) -> None:
        """Load the results of `optimizer_state` and `scaler_state`. Settings such as betas stay those of `optimizer`.

        Args:
            name: the name of the file, for messages.

        Raises:
            CheckpointError: they do not fit.
        """
        options = StateDictOptions(full_state_dict=True)
        fresh = get_optimizer_state_dict(module, optimizer.optimizer, options=options)
        check_optimizer(state, fresh, name)
        fitting = {"state": state["state"], "param_groups": fresh["param_groups"]}
        set_optimizer_state_dict(module, optimizer.optimizer, fitting, options=options)
        if scaler and self.accelerator.scaler is not None:
            check_scaler(scaler, name)
            self.accelerator.scaler.load_state_dict(scaler)

    def agree(self, asked: bool) -> bool:
        """Whether `asked` is true in any process; all of them must ask at the same place."""
        if self.count == 1:
            return asked
        return bool(self.accelerator.reduce(torch.tensor(float(asked), device=self.device), "sum") > 0)
