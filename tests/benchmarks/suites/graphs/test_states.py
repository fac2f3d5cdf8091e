"""The calls by which graphs are judged, and those that calibrate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dbench.suites.graphs import states
from dbench.suites.graphs.source import Original
from drun.console import silent


def test_references_are_eager_calls_at_real_states_and_both_ends_of_time(transformer: Original) -> None:
    references = states.references(replace(transformer, batch=3), silent)
    times = [float(one.inputs[1][0]) for one in references]
    assert (times[0], min(times)) == (1.0, times[-1])
    assert 0 < times[-1] < 0.05
    for one in references:
        x, t, y = map(torch.from_numpy, one.inputs)
        assert (x.dtype, t.dtype, y.dtype) == (torch.float32, torch.float32, torch.int64)
        assert x.shape == (3, 1, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(one.out), transformer.denoiser.network(x, t, y))
    assert not np.array_equal(references[1].inputs[0], references[2].inputs[0])
    assert len({int(label) for one in references for label in one.inputs[2]}) > 2


def test_the_calibration_walks_other_samples_through_all_times(transformer: Original) -> None:
    calls = states.calibration(transformer.denoiser, silent)
    compared = states.references(replace(transformer, batch=4), silent)
    assert len(calls) >= states.NUM_CALIBRATING
    assert len({float(call[1][0]) for call in calls}) >= states.NUM_CALIBRATING
    assert not np.array_equal(calls[0][0], compared[0].inputs[0])
