"""Sessions with the options of an attempt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dbench.suites.graphs.candidates import Attempt
from dbench.suites.graphs.opening import opened
from dbench.suites.graphs.source import Original
from drun.errors import BackendUnavailable


def test_a_session_has_the_options_of_its_attempt(unet: Original) -> None:
    attempt = Attempt(unet.default(), lambda options: setattr(options, "enable_mem_pattern", False))
    session = opened(attempt, unet.part, 1)
    options = session.session.get_session_options()
    assert (options.intra_op_num_threads, options.enable_mem_pattern) == (1, False)
    assert session.size_bytes == unet.default().stat().st_size
    assert session.opening_s > 0


def test_a_call_writes_what_the_network_computes(unet: Original) -> None:
    session = opened(Attempt(unet.default()), unet.part, 1)
    inputs = (np.ones((2, 1, 16, 16), np.float32), np.array([3.0, 4.0], np.float32))
    expected = session.session.run(None, dict(zip(("x", "t"), inputs, strict=True)))[0]
    np.testing.assert_array_equal(session.call(session.bound(inputs)), expected)
    with torch.no_grad():
        network = unet.part.network(*map(torch.from_numpy, inputs)).numpy()
    np.testing.assert_allclose(expected, network, rtol=1e-4, atol=1e-5)


def test_a_file_that_is_no_graph(unet: Original, tmp_path: Path) -> None:
    (tmp_path / "wrong.onnx").write_text("no graph")
    with pytest.raises(BackendUnavailable, match="ONNX Runtime cannot open it"):
        opened(Attempt(tmp_path / "wrong.onnx"), unet.part, 1)
