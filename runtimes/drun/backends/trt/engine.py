"""A plan as an engine of a device: an execution context for each batch, whose calls a CUDA graph can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drun.backends import Signature
from drun.backends.trt.library import errors, library, logger
from drun.backends.trt.profiles import Profile, profile_of
from drun.bundle.artifact import Tensor
from drun.errors import BackendUnavailable, OutOfMemory


def deserialized(plan: Any) -> Any:
    """A `tensorrt.ICudaEngine`, from the bytes of a plan.

    Raises:
        BackendUnavailable: it is of another GPU or version, or damaged. TensorRT gives None then, and logs the reason.
    """
    errors()  # of earlier work
    engine = library().Runtime(logger()).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendUnavailable(errors())
    return engine


def profiles_of(engine: Any, name: str) -> tuple[Profile, ...]:
    """The batches of a plan's profiles. name: of an input."""
    shapes = (engine.get_tensor_profile_shape(name, place) for place in range(engine.num_optimization_profiles))
    return tuple(Profile(*(int(shape[0]) for shape in three)) for three in shapes)


class PlanEngine:
    """A deserialised plan.

    Args:
        engine: a `tensorrt.ICudaEngine`.
        io: of the artifact.
        stream: the handle of the device's stream.
        free_bytes: the memory that is left on the device.
    """

    is_capturable = True

    def __init__(self, engine: Any, io: Sequence[Tensor], stream: int, free_bytes: Callable[[], int]) -> None:
        self.engine, self.io, self.stream, self.free_bytes = engine, io, stream, free_bytes
        self.profiles = profiles_of(engine, io[0].name)

    def bound(self, batch: int, addresses: tuple[int, ...]) -> Callable[[], None]:
        """See `drun.device.device.Engine`."""
        number = profile_of(batch, self.profiles)
        # By itself it would take the memory of the largest profile.
        strategy = library().ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        context = self.engine.create_execution_context(strategy)
        if context is None:
            raise self._no_memory(number, batch)
        self._bind(context, number, batch, addresses)

        def call() -> None:
            if not context.execute_async_v3(self.stream):
                raise BackendUnavailable(f"TensorRT failed on a batch of {batch}: {errors()}")

        return call

    def signature(self) -> Signature:
        """Names, dtypes and shapes of the inputs and outputs. A batch is open unless there is only one."""
        trt, engine = library(), self.engine
        sizes = {size for profile in self.profiles for size in (profile.low, profile.high)}
        batch = sizes.pop() if len(sizes) == 1 else None

        def port(name: str) -> tuple[str, tuple[int | None, ...]]:
            sides = tuple(batch if side == -1 else int(side) for side in engine.get_tensor_shape(name))
            dtype = engine.get_tensor_dtype(name)
            return ("int64" if dtype == trt.int64 else trt.nptype(dtype).__name__), sides

        return {name: port(name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))}

    def _no_memory(self, number: int, batch: int) -> OutOfMemory:
        """With the batches that would fit."""
        free, need = self.free_bytes(), self.engine.get_device_memory_size_for_profile_v2
        fitting = [str(one) for place, one in enumerate(self.profiles) if need(place) <= free]
        advice = f"--batch {' or '.join(fitting)} fits" if fitting else "free the GPU of other programs"
        return OutOfMemory(
            f"calls of {batch} images need {need(number):,} bytes, and the GPU has {free:,} left: {advice} ({errors()})"
        )

    def _bind(self, context: Any, profile: int, batch: int, addresses: tuple[int, ...]) -> None:
        done = context.set_optimization_profile_async(profile, self.stream)
        if not done and self.engine.get_device_memory_size_for_profile_v2(profile) > self.free_bytes():
            raise self._no_memory(profile, batch)
        for tensor, address in zip(self.io, addresses, strict=True):
            if tensor is not self.io[-1]:
                done = done and context.set_input_shape(tensor.name, (batch, *tensor.shape[1:]))
            done = done and context.set_tensor_address(tensor.name, address)
        if not done or context.infer_shapes():
            raise BackendUnavailable(f"TensorRT does not take {batch} images: {errors()}")
