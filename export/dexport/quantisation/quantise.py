"""Quantises a graph by NNCF, whose reports, logs and bars stay away."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from dexport.quantisation.recipe import Plan, plan
from dexport.quantisation.states import Inputs, calibration_inputs, fp32_times
from drun.backends.openvino.graph import cause, library, without_telemetry
from drun.bundle.artifact import FP32_TIMES, TIME, Artifact
from drun.bundle.reading import Bundle
from drun.console import Report, log_level
from drun.errors import BackendUnavailable, ExportError, reason
from drun.run.opening import Candidate, open_candidate
from drun.version import version_of

INSTALL = "pip install 'dexport[int8]'"


def quantiser() -> Any:
    """The module `nncf`, imported without its telemetry.

    Raises:
        BackendUnavailable: it does not load, or OpenVINO does not.
    """
    library()
    usual = logging.getLoggerClass()
    try:
        with without_telemetry("nncf"):
            import nncf
    except ImportError as error:
        raise BackendUnavailable(f"int8 needs nncf, which does not load: {reason(error)}; {INSTALL}") from error
    finally:
        logging.setLoggerClass(usual)  # which NNCF replaces for the whole process
    return nncf


def producers() -> dict[str, str]:
    """library -> version, for an artifact's `producers`."""
    return {"nncf": version_of("nncf")}


def in_int8(bundle: Bundle, artifact: Artifact, model: Any, report: Report) -> tuple[Any, dict[str, Any]]:
    """Quantise the float32 graph of a bundle's denoiser on states of its own sampling.

    Args:
        artifact: the artifact of the bundle in float32. model: its `openvino.Model`.

    Returns:
        A new model, and what its artifact's `target` states.

    Raises:
        BackendUnavailable: NNCF or OpenVINO cannot be loaded. ExportError: the graph cannot be quantised.
        NotFiniteError: the network draws numbers that are not finite. BundleError: a file is damaged.
    """
    quantiser()  # a missing library is an error before minutes of work
    card, names = bundle.manifest.card, [tensor.name for tensor in artifact.io[:-1]]
    if TIME not in names:
        raise ExportError(f"int8 is made of a graph with x and t, {artifact.id} takes {', '.join(names)}: use another")
    chosen = plan(model)
    with open_candidate(bundle, Candidate("openvino", artifact, "fp32")) as opened:
        inputs = calibration_inputs(card, opened, artifact.batch[0], report)
    return quantised(model, chosen, names, inputs, report), {FP32_TIMES: fp32_times(card)}


def quantised(model: Any, plan: Plan, names: Sequence[str], inputs: Sequence[Inputs], report: Report) -> Any:
    """A new `openvino.Model`, in which the inputs and weights of the planned products are quantised.

    The same model and inputs give the same result.

    Args:
        names: the names of the arrays of `inputs`.

    Raises:
        BackendUnavailable: NNCF cannot be loaded. ExportError: it fails.
    """
    nncf = quantiser()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    scheme = plan.scheme
    alpha = -1.0 if scheme.smooth_quant is None else scheme.smooth_quant
    with silenced():
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(_Reported(inputs, report), lambda arrays: dict(zip(names, arrays, strict=True))),
                subset_size=len(inputs),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if scheme.is_transformer else None,
                ignored_scope=nncf.IgnoredScope(names=[*plan.kept], types=[*plan.kept_types]),
                advanced_parameters=AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                    smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=alpha, convolution=-1.0),
                ),
            )
        except (nncf.InternalError, RuntimeError, ValueError) as error:
            raise ExportError(f"the graph cannot be quantised by NNCF: {cause(error)}") from error


@contextmanager
def silenced() -> Iterator[None]:
    """Keep NNCF's bars from stdout, and its log from stderr."""
    with log_level("nncf", logging.CRITICAL), redirect_stdout(io.StringIO()):
        yield


class _Reported:
    """The inputs, each reported when it is taken: NNCF walks through them several times."""

    def __init__(self, inputs: Sequence[Inputs], report: Report) -> None:
        self.inputs, self.report, self.passes = inputs, report, 0

    def __iter__(self) -> Iterator[Inputs]:
        self.passes += 1
        for number, one in enumerate(self.inputs, 1):
            self.report(f"measuring ranges, pass {self.passes}", number, len(self.inputs))
            yield one
