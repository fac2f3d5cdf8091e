"""A plan as an engine. There is no GPU here: an object with TensorRT's methods stands in for a deserialised plan."""

from __future__ import annotations

from typing import Any

import pytest

from drun.backends.trt import engine
from drun.backends.trt.engine import PlanEngine
from drun.backends.trt.profiles import Profile
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, OutOfMemory
from drun.extras import is_installed

pytestmark = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")

ADDRESSES = (100, 200, 300)


class Context:
    """Notes what is set, and refuses what it is told to."""

    def __init__(self, refuses: str) -> None:
        self.refuses, self.done = refuses, []

    def answer(self, name: str, *args: Any) -> bool:
        self.done.append((name, *args))
        return name != self.refuses

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return self.answer("profile", profile_index, stream_handle)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self.answer("shape", name, shape)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        return self.answer("address", name, memory)

    def infer_shapes(self) -> list[str]:
        return []

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self.answer("execute", stream_handle)


class Plan:
    """The profiles 2 and 4..8 of the bundle's network."""

    num_optimization_profiles, num_io_tensors = 2, 3

    def __init__(self, refuses: str = "", free: int = 0) -> None:
        self.refuses, self.free, self.contexts = refuses, free, []

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [(size, 3, 8, 8) for size in ((2, 2, 2), (4, 8, 8))[profile_index]]

    def create_execution_context(self) -> Context | None:
        if self.refuses == "context":
            return None
        self.contexts.append(Context(self.refuses))
        return self.contexts[-1]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return (1000, 4000)[profile_index]

    def get_tensor_name(self, index: int) -> str:
        return ("x", "t", "out")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if name == "t" else (-1, 3, 8, 8)

    def get_tensor_dtype(self, name: str) -> Any:
        import tensorrt_rtx

        return tensorrt_rtx.float32


def engine_of(bundle: Bundle, plan: Plan) -> PlanEngine:
    return PlanEngine(plan, bundle.manifest.artifacts[0].io, stream=7, free_bytes=lambda: plan.free)


def test_a_call_is_bound_to_its_profile_its_shapes_and_its_addresses(bundle: Bundle) -> None:
    plan = Plan()
    bound = engine_of(bundle, plan)
    assert bound.profiles == (Profile(2, 2, 2), Profile(4, 8, 8))
    bound.bound(5, ADDRESSES)()
    assert plan.contexts[0].done == [
        ("profile", 1, 7),
        ("shape", "x", (5, 3, 8, 8)),
        ("address", "x", 100),
        ("shape", "t", (5,)),
        ("address", "t", 200),
        ("address", "out", 300),
        ("execute", 7),
    ]


def test_the_signature_is_that_of_the_plan() -> None:
    assert engine.signature(Plan()) == {
        "x": ("float32", (None, 3, 8, 8)),
        "t": ("float32", (None,)),
        "out": ("float32", (None, 3, 8, 8)),
    }


def test_a_batch_outside_every_profile(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match="a call of 3 images fits no profile of the plan: --batch can be 2"):
        engine_of(bundle, Plan()).bound(3, ADDRESSES)


def test_too_little_memory_says_how_much_and_what_fits(bundle: Bundle) -> None:
    message = "calls of 8 images need 4,000 bytes, and the GPU has 3,000 left: --batch 2 fits"
    with pytest.raises(OutOfMemory, match=message):
        engine_of(bundle, Plan("context", free=3000)).bound(8, ADDRESSES)
    with pytest.raises(OutOfMemory, match="and the GPU has 500 left: free the GPU of other programs"):
        engine_of(bundle, Plan("context", free=500)).bound(2, ADDRESSES)


@pytest.mark.parametrize("refuses", ["profile", "shape", "address"])
def test_what_the_plan_refuses(bundle: Bundle, refuses: str) -> None:
    with pytest.raises(BackendUnavailable, match="TensorRT does not take 2 images: "):
        engine_of(bundle, Plan(refuses)).bound(2, ADDRESSES)


def test_a_call_that_fails(bundle: Bundle) -> None:
    call = engine_of(bundle, Plan("execute")).bound(2, ADDRESSES)
    with pytest.raises(BackendUnavailable, match="TensorRT failed on a batch of 2: "):
        call()
