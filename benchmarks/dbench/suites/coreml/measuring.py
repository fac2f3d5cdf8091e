"""Makes, weighs, proves and times the packages of a network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from dbench.core import fresh, inputs, machine, networks, subject, timing
from dbench.core.networks import Origin
from dbench.core.record import Result, ResultRow, spread_row, this_command
from dbench.suites.coreml.making import Making, made
from dbench.suites.coreml.rows import CALL, MEMORY, SECONDS, SIZE, SLOWER, TRAJECTORY, VALUES, row_name
from dbench.suites.coreml.settings import SUITE, CoremlSettings
from dexport import targets
from dexport.proof import full_proof
from dexport.writer.create import Trained, create_bundle
from dexport.writer.staging import Order, Written
from drun.bundle.reading import Bundle
from drun.console import Report, silent, warn
from drun.errors import ConfigError, ParityError
from drun.mil.executor import Executor
from drun.mil.package import Package
from drun.run.opening import Candidate, open_candidate
from drun.settings import DEFAULT_OPTIONS
from dtrain.published import Denoiser

TARGET = "coreml"


def measure(settings: CoremlSettings, report: Report) -> Result:
    """Each package: what its export takes, what it weighs, how far it is from eager PyTorch, and how long a call takes.

    Raises:
        ConfigError: an unknown recipe, setting, unit or precision. CheckpointError: the file is not a checkpoint.
    """
    chosen = [*product(_chosen("--unit", settings.units, targets.units(TARGET)), _precisions(settings))]
    start = machine.usage()
    rows: list[ResultRow] = []
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="dbench-coreml-", ignore_cleanup_errors=True) as scratch:
        origin = networks.find(settings.model, settings.assignments, Path(scratch))
        denoiser = origin.load()
        trained = Trained(denoiser, origin.checkpoint)
        for number, (unit, precision) in enumerate(chosen):
            name = f"{precision}-{unit}"
            report("packages", number, len(chosen), name)
            folder = Path(scratch, name)
            folder.mkdir()
            rows += _weighed(name, _made(origin, unit, precision, settings, folder))
            if settings.steps:
                try:
                    written = _written(trained, unit, precision, settings, Path(scratch, "bundle"))
                    rows += _proven(name, written) + _timed(name, written, denoiser, settings)
                    rows += _called(name, written)
                except ParityError as error:
                    refused[name] = str(error)
                    warn(str(error))
        report("packages", len(chosen), len(chosen))
    resolved = {key: value for key, value in asdict(settings).items() if key != "model"} | {
        "packages": [f"{precision}-{unit}" for unit, precision in chosen],
        "refused": refused,
        "is_random": origin.is_random,
    }
    here = machine.fingerprint(machine.num_cores(), since=start)
    return Result(tuple(rows), _subject(origin, denoiser), resolved, here, this_command())


def _precisions(settings: CoremlSettings) -> list[str]:
    return _chosen("--precision", settings.precisions, targets.precisions(TARGET))


def _chosen(option: str, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """The wanted ones, or all. Raises ConfigError for an unknown one."""
    for one in wanted:
        if one not in known:
            raise ConfigError(f"{option} got '{one}', expected one of {', '.join(known)}")
    return [one for one in known if not wanted or one in wanted]


def _subject(origin: Origin, denoiser: Denoiser) -> dict[str, Any]:
    recipe = origin.recipe
    known = {"name": origin.checkpoint.stem, "checkpoint_sha256": denoiser.sha256}
    own = known if recipe is None else subject.of_recipe(recipe.to_dict())
    return own | {"model": denoiser.config, "parameters": denoiser.num_parameters, "state": denoiser.card.data.shape}


# ---- one package ----------------------------------------------------------------------------------------


def _made(origin: Origin, unit: str, precision: str, settings: CoremlSettings, folder: Path) -> Making:
    assignments = () if origin.is_random else settings.assignments
    return made(origin.checkpoint, unit, precision, assignments, folder)


def _weighed(name: str, making: Making) -> list[ResultRow]:
    peak_gb = None if making.peak_bytes is None else making.peak_bytes / 1e9
    return [
        ResultRow(SUITE, row_name(name, SIZE), making.package_bytes / 1e6, "MB"),
        ResultRow(SUITE, row_name(name, SECONDS), making.seconds, "s"),
        ResultRow(SUITE, row_name(name, MEMORY), peak_gb, "GB"),
    ]


def _written(trained: Trained, unit: str, precision: str, settings: CoremlSettings, path: Path) -> Written:
    """A package of the bundle, proven on a trajectory of the wanted length."""
    steps = trained.denoiser.card.process.most_steps(settings.steps)
    return create_bundle(trained, Order(TARGET, precision, variant=unit), path, full_proof(steps), silent)


def _proven(name: str, written: Written) -> list[ResultRow]:
    """The worst call, and the final images of the long trajectory."""
    calls = [one for one in written.results if one.name.startswith("call")]
    worst, final = min(calls, key=lambda one: one.psnr_db), written.results[-1]
    return [
        ResultRow(SUITE, row_name(name, what), one.psnr_db, "dB", details=asdict(one))
        for what, one in ((CALL, worst), (TRAJECTORY, final))
    ]


def _timed(name: str, written: Written, denoiser: Denoiser, settings: CoremlSettings) -> list[ResultRow]:
    """A call of one image by the executor and by eager PyTorch, in turns, with a thread for each core.

    numpy takes all cores, and cannot be told otherwise.
    """
    bundle: Bundle = written.bundle
    given = inputs.example(bundle, 1)
    tensors = [torch.from_numpy(array) for array in given]
    candidate = _candidate(written)
    torch.set_num_threads(machine.num_cores())
    with torch.inference_mode(), open_candidate(bundle, candidate) as opened:
        calls = {"mil": partial(opened.backend.predict, *given), "eager": partial(denoiser.network, *tensors)}
        times = timing.interleave(calls, settings.repeats, warmup=1, lead_in=1, pause_s=timing.PAUSE_S)
    ratio = timing.pairwise_ratio(times["mil"], times["eager"])
    details = {one: found.spread_ms.median for one, found in times.items()}
    return [spread_row(SUITE, row_name(name, SLOWER), ratio, "x", details=details)]


def _called(name: str, written: Written) -> list[ResultRow]:
    """The values of a call of one image: what a process that makes it takes beyond its imports and its weights."""
    job = fresh.Job(written.bundle.path, _candidate(written), DEFAULT_OPTIONS, batch=1, num_images=1, num_steps=1)
    idle, busy = (fresh.session_peak_bytes(job, num_calls) for num_calls in (0, 1))
    kept = _kept_bytes(written)
    values_mb = None if idle is None or busy is None else max(0, busy - idle - kept) / 1e6
    return [ResultRow(SUITE, row_name(name, VALUES), values_mb, "MB", details={"kept_bytes": kept})]


def _candidate(written: Written) -> Candidate:
    return Candidate("mil", written.artifact, written.artifact.precision)


def _kept_bytes(written: Written) -> int:
    """Of the constants that the executor keeps for one image."""
    graphs = [one for one in (written.artifact, written.artifact.conditioning) if one is not None]
    packages = [(Package(written.bundle.path / one.root), one.batch) for one in graphs]
    return sum(Executor(one, one.functions_by_batch(batch)[batch[0]]).kept_bytes for one, batch in packages)
