"""Times in bfloat16: 999 is not taken for 1000."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from drun.backends.openvino.graph import capabilities, core
from drun.backends.openvino.times import keep_times

pytestmark = pytest.mark.skipif("BF16" not in capabilities(), reason="this processor has no bfloat16")

FREQUENCIES = np.array([1, 0.1, 0.01, 0.001], np.float32)
TIMES = np.array([0, 1, 200, 501, 990, 997, 999], np.float32)


def sinusoid(source: str = "t", static: bool = False) -> ov.Model:
    """[sin, cos](t f) W with W the identity, as in a time embedding, plus 0 x."""
    t = ops.parameter([len(TIMES) if static else -1], np.float32, source)
    t.output(0).set_names({source})
    x = ops.parameter([-1, 8], np.float32, "x")
    x.output(0).set_names({"x"})
    angles = ops.multiply(ops.unsqueeze(t, np.array([1])), FREQUENCIES[None])
    waves = ops.concat([ops.sin(angles), ops.cos(angles)], axis=1)
    out = ops.matmul(waves, np.eye(8, dtype=np.float32), False, False)
    return ov.Model([ops.add(out, ops.multiply(x, np.float32(0)))], [t, x], "sinusoid")


def error(model: ov.Model) -> float:
    """The largest from float64, in bfloat16."""
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    got = compiled([TIMES, np.ones((len(TIMES), 8), np.float32)])[0]
    angles = TIMES.astype(np.float64)[:, None] * FREQUENCIES
    return float(np.abs(got - np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).max())


@pytest.mark.parametrize("static", [False, True])
def test_a_sinusoid_of_times_is_exact_to_the_rounding_of_its_values(static: bool) -> None:
    rounded, kept = sinusoid(static=static), sinusoid(static=static)
    keep_times(kept, core())
    assert error(rounded) > 0.5
    assert error(kept) < 2**-8


def test_other_sines_are_left_alone() -> None:
    model = sinusoid("phase")
    before = [operation.get_name() for operation in model.get_ordered_ops()]
    keep_times(model, core())
    assert [operation.get_name() for operation in model.get_ordered_ops()] == before
