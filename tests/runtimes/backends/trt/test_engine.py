"""A plan as an engine, on a stand-in for a plan that a GPU has deserialised."""

from __future__ import annotations

import pytest
from trt_plans import Plan

from drun.backends.trt.engine import PlanEngine
from drun.backends.trt.profiles import Profile
from drun.bundle.reading import Bundle
from drun.errors import BackendUnavailable, OutOfMemory
from drun.extras import is_installed

pytestmark = pytest.mark.skipif(not is_installed("tensorrt_rtx"), reason="needs tensorrt_rtx")

ADDRESSES = (100, 200, 300)


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


@pytest.mark.parametrize(
    ("profiles", "batch"), [(((2, 2, 2), (4, 8, 8)), None), (((4, 4, 4),), 4), (((4, 4, 4), (8, 8, 8)), None)]
)
def test_the_signature_is_that_of_the_plan(
    bundle: Bundle, profiles: tuple[tuple[int, ...], ...], batch: int | None
) -> None:
    """TensorRT calls the batch open even if there is only one."""
    assert engine_of(bundle, Plan(profiles=profiles)).signature() == {
        "x": ("float32", (batch, 3, 8, 8)),
        "t": ("float32", (batch,)),
        "out": ("float32", (batch, 3, 8, 8)),
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
    with pytest.raises(OutOfMemory, match=message):  # of a profile, whose memory comes when it is set
        engine_of(bundle, Plan("profile", free=3000)).bound(8, ADDRESSES)


@pytest.mark.parametrize("refuses", ["profile", "shape", "address"])
def test_what_the_plan_refuses(bundle: Bundle, refuses: str) -> None:
    with pytest.raises(BackendUnavailable, match="TensorRT does not take 2 images: "):
        engine_of(bundle, Plan(refuses, free=9999)).bound(2, ADDRESSES)


def test_a_call_that_fails(bundle: Bundle) -> None:
    call = engine_of(bundle, Plan("execute")).bound(2, ADDRESSES)
    with pytest.raises(BackendUnavailable, match="TensorRT failed on a batch of 2: "):
        call()
