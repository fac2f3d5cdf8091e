from pathlib import Path

import numpy as np
import pytest
import torch

from dexport.precision.states import read_states
from drun.bundle.reading import Bundle
from drun.run.golden import read_golden


def test_the_largest_call_at_each_time_is_taken(sit_bundle: Bundle) -> None:
    golden, states = read_golden(sit_bundle), read_states(sit_bundle.path / "golden.npz")
    assert len(states.calls) == len({call.t for call in golden.calls}) < len(golden.calls)
    for x, t, y in states.calls:
        (call,) = (call for call in golden.calls if call.t == t[0] and len(call.x) == len(x))
        assert len(x) == max(len(call.x) for call in golden.calls)
        assert call.labels is not None
        assert np.array_equal(x.numpy(), call.x)
        assert np.array_equal(y.numpy(), call.labels)
        assert torch.equal(t, torch.full((len(x),), call.t))
    assert states.latents == ()


@pytest.mark.slow
def test_without_classes_there_are_no_labels_and_a_decoder_has_latents(onnx_bundle: Path, tmp_path: Path) -> None:
    assert {len(call) for call in read_states(onnx_bundle / "golden.npz").calls} == {2}
    with np.load(onnx_bundle / "golden.npz") as golden:
        z = np.ones((2, 4, 8, 8), np.float32)
        np.savez(tmp_path / "golden.npz", **golden, **{"decoder.z": z})
    ((got,),) = read_states(tmp_path / "golden.npz").latents
    assert np.array_equal(got.numpy(), z)
