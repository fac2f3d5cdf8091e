"""An object with TensorRT's methods in the place of a deserialised plan, which only a GPU can make."""

from __future__ import annotations

from typing import Any

PROFILES = ((2, 2, 2), (4, 8, 8))


class Context:
    """Notes what is set, and refuses what it is told to."""

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses
        self.done: list[tuple[Any, ...]] = []

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
    """A plan of the tests' network, with the profiles 2 and 4..8 unless others are given: lowest, usual, highest."""

    num_io_tensors = 3

    def __init__(
        self, refuses: str = "", free: int = 0, profiles: tuple[tuple[int, ...], ...] = PROFILES, side: int = 8
    ) -> None:
        self.refuses, self.free, self.profiles, self.side = refuses, free, profiles, side
        self.num_optimization_profiles = len(profiles)
        self.contexts: list[Context] = []

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [(size, 3, self.side, self.side) for size in self.profiles[profile_index]]

    def create_execution_context(self, strategy: Any) -> Context | None:
        assert strategy.name == "ON_PROFILE_CHANGE"
        if self.refuses == "context":
            return None
        self.contexts.append(Context(self.refuses))
        return self.contexts[-1]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return (1000, 4000)[profile_index]

    def get_tensor_name(self, index: int) -> str:
        return ("x", "t", "out")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if name == "t" else (-1, 3, self.side, self.side)

    def get_tensor_dtype(self, name: str) -> Any:
        import tensorrt_rtx

        return tensorrt_rtx.float32
