"""Tests mirror the sources: each module has its test file, in the same folders, or a line here that says why not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: folder of sources, and of their tests -> package
PACKAGES = {"runtimes": "drun", "trainer": "dtrain", "export": "dexport", "benchmarks": "dbench"}

#: Modules without a test file of their own -> what tests them. A folder stands for its `__init__`.
ELSEWHERE = {
    "drun/__main__.py": "by runtimes/console/test_app.py",
    "drun/commands/cache.py": "by runtimes/test_cache.py",
    "drun/commands/options.py": "by runtimes/commands/test_sample.py, option by option",
    "drun/run/opening/candidates.py": "by runtimes/run/test_opening.py",
    "drun/backends/trt/library.py": "by runtimes/backends/trt/test_trt.py",
    "drun/device/calls.py": "by runtimes/backends/ort/test_engine.py",
    "drun/device/device.py": "by runtimes/device/test_walk.py",
    "drun/device/noise.py": "by runtimes/device/test_walk.py",
    "drun/device/steps.py": "by runtimes/device/test_walk.py",
    "drun/backends/ort/cpu.py": "by runtimes/backends/ort/test_ort.py",
    "drun/backends/ort/on_device.py": "by runtimes/backends/ort/test_ort.py",
    "drun/backends/ort/session.py": "by runtimes/backends/ort/test_ort.py",
    "drun/mil/constants.py": "by runtimes/mil/test_blobs.py and test_executor.py",
    "drun/mil/ops": "by runtimes/mil/test_executor.py",
    "drun/mil/special.py": "by runtimes/mil/ops/test_elementwise.py",
    "drun/mil/types.py": "by runtimes/mil/test_executor.py",
    "drun/run/opening/choosing.py": "by runtimes/run/test_opening.py",
    "drun/run/opening/opened.py": "by runtimes/run/test_opening.py",
    "dtrain": "by runtimes/test_version.py",
    "dtrain/__main__.py": "by runtimes/console/test_app.py",
    "dtrain/commands.py": "by trainer/test_cli.py",
    "dtrain/config/sections.py": "by trainer/config/test_reading.py",
    "dtrain/data/encoded_shards.py": "by trainer/data/test_encode.py",
    "dtrain/data/items.py": "by trainer/data/test_shards.py",
    "dtrain/data/scanning.py": "by trainer/data/test_shards.py",
    "dtrain/models/transformer/blocks.py": "by trainer/models/transformer/test_transformer.py",
    "dtrain/models/transformer/embeddings.py": "by trainer/models/transformer/test_transformer.py",
    "dtrain/models/transformer/layers.py": "by trainer/models/transformer/test_transformer.py",
    "dtrain/models/transformer/networks.py": "by trainer/models/transformer/test_transformer.py",
    "dtrain/models/transformer/sizes.py": "by trainer/models/transformer/test_transformer.py",
    "dtrain/models/unet/blocks.py": "by trainer/models/unet/test_unet.py",
    "dtrain/models/unet/networks.py": "by trainer/models/unet/test_unet.py",
    "dtrain/published/denoiser.py": "by trainer/published/test_ours.py and test_conventions.py",
    "dtrain/published/families": "by trainer/published/test_published.py",
    "dtrain/published/settings.py": "by trainer/published/test_published.py",
    "dtrain/train/run.py": "by trainer/train/test_start.py and test_loop.py",
    "dexport": "by runtimes/test_version.py",
    "dexport/__main__.py": "by runtimes/console/test_app.py",
    "dexport/commands.py": "by export/test_cli.py",
    "dexport/deploy/ane": "by export/deploy/ane/test_transformer.py",
    "dexport/deploy/vae.py": "by export/test_decoders.py",
    "dexport/options.py": "by export/test_cli.py",
    "dexport/precision/islands.py": "by export/precision/test_precision.py",
    "dexport/precision/layers.py": "by export/precision/test_precision.py",
    "dexport/tracing.py": "by export/targets/test_onnx.py and test_pt2.py",
    "dexport/writer/proving.py": "by export/writer/test_add.py and test_create.py",
    "dexport/writer/staging.py": "by export/writer/test_add.py and test_create.py",
    "dbench": "by runtimes/test_version.py",
    "dbench/__main__.py": "by runtimes/console/test_app.py",
    "dbench/commands.py": "by benchmarks/test_cli.py",
    "dbench/campaign/slices.py": "by benchmarks/campaign/test_running.py",
    "dbench/campaign/table.py": "by benchmarks/campaign/test_campaign.py",
    "dbench/core/child.py": "by benchmarks/core/test_fresh.py",
    "dbench/core/matmuls.py": "by benchmarks/suites/train/test_trial.py",
    "dbench/core/proofs.py": "by benchmarks/report/test_proofs.py",
    "dbench/core/stand_ins.py": "by benchmarks/suites/train/test_synthetic.py",
    "dbench/html/page.py": "by benchmarks/report/test_report.py",
    "dbench/quality/features": "by benchmarks/quality/features/test_pixels.py",
    "dbench/report/head.py": "by benchmarks/report/test_report.py",
    "dbench/report/sections.py": "by benchmarks/report/test_report.py",
    "dbench/suites": "by benchmarks/test_extensions.py",
    "dbench/suites/coreml/making.py": "by benchmarks/suites/coreml/test_coreml.py",
    "dbench/suites/coreml/measuring.py": "by benchmarks/suites/coreml/test_coreml.py",
    "dbench/suites/coreml/rows.py": "by benchmarks/suites/coreml/test_coreml.py",
    "dbench/suites/coreml/settings.py": "by benchmarks/suites/coreml/test_coreml.py",
    "dbench/suites/coreml/table.py": "by benchmarks/suites/coreml/test_coreml.py",
    "dbench/suites/kernel/measuring.py": "by benchmarks/suites/kernel/test_kernel.py",
    "dbench/suites/kernel/processor.py": "by runtimes/device/test_step.py and test_walk.py",
    "dbench/suites/kernel/settings.py": "by benchmarks/suites/kernel/test_kernel.py",
    "dbench/suites/graphs/measuring.py": "by benchmarks/suites/graphs/test_graphs.py",
    "dbench/suites/graphs/settings.py": "by benchmarks/suites/graphs/test_graphs.py",
    "dbench/suites/latency/processes.py": "by benchmarks/suites/latency/test_latency.py",
    "dbench/suites/latency/settings.py": "by benchmarks/suites/latency/test_latency.py",
    "dbench/suites/parity/measuring.py": "by benchmarks/suites/parity/test_parity.py",
    "dbench/suites/parity/settings.py": "by benchmarks/suites/parity/test_parity.py",
    "dbench/suites/peers/libraries": "by benchmarks/suites/peers/test_contest.py and test_peers.py",
    "dbench/suites/peers/measuring.py": "by benchmarks/suites/peers/test_peers.py",
    "dbench/suites/peers/names.py": "by benchmarks/suites/peers/test_calls.py and test_peers.py",
    "dbench/suites/peers/settings.py": "by benchmarks/suites/peers/test_peers.py",
    "dbench/suites/pick/measuring.py": "by benchmarks/suites/pick/test_pick.py",
    "dbench/suites/pick/settings.py": "by benchmarks/suites/pick/test_pick.py",
    "dbench/suites/quality/judgement.py": "by benchmarks/suites/quality/test_quality.py",
    "dbench/suites/quality/measuring.py": "by benchmarks/suites/quality/test_quality.py",
    "dbench/suites/quality/settings.py": "by benchmarks/suites/quality/test_quality.py",
    "dbench/suites/repa/answer.py": "by benchmarks/suites/repa/test_plots.py",
    "dbench/suites/repa/costs.py": "by benchmarks/suites/repa/test_plots.py and test_repa.py",
    "dbench/suites/repa/measuring.py": "by benchmarks/suites/repa/test_repa.py",
    "dbench/suites/repa/rows.py": "by benchmarks/suites/repa/test_repa.py",
    "dbench/suites/repa/showing.py": "by benchmarks/suites/repa/test_repa.py",
    "dbench/suites/repa/table.py": "by benchmarks/suites/repa/test_plots.py",
    "dbench/suites/repa/settings.py": "by benchmarks/suites/repa/test_repa.py",
    "dbench/suites/throughput/race.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/measuring.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/names.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/papers.py": "by benchmarks/suites/throughput/test_loops.py",
    "dbench/suites/throughput/rows.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/settings.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/table.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/throughput/ways.py": "by benchmarks/suites/throughput/test_throughput.py",
    "dbench/suites/train/candidates.py": "by benchmarks/suites/train/test_train.py",
    "dbench/suites/train/measuring.py": "by benchmarks/suites/train/test_train.py",
    "dbench/suites/train/memory.py": "by benchmarks/suites/train/test_trial.py",
    "dbench/suites/train/rows.py": "by benchmarks/suites/train/test_train.py",
    "dbench/suites/train/settings.py": "by benchmarks/suites/train/test_train.py",
    "dbench/suites/train/table.py": "by benchmarks/report/test_readme.py",
    "dbench/suites/train/work.py": "by benchmarks/suites/train/test_trial.py",
}

#: Test files that are not of one module -> what they are of.
ACROSS = {
    "benchmarks/campaign/test_campaign.py": "the package campaign, from the command to results",
    "benchmarks/test_extensions.py": "a new suite and a new backend, on copied packages",
    "examples/test_service.py": "an example",
    "export/apple/test_foreign_models.py": "networks of other libraries, converted and computed",
    "export/precision/test_bundles.py": "bundles in fp16 and bf16, from the export to a run",
    "runtimes/mil/test_damage.py": "programs that are damaged, from the package to the run",
    "export/targets/test_target_extension.py": "a new target, on copied packages",
    "export/test_decoders.py": "latent models from export to images",
    "export/test_transformers.py": "transformers from export to parity",
    "export/writer/test_split.py": "a network in two graphs, from export to images",
    "export/writer/test_refusals.py": "exports that fail half way",
    "runtimes/backends/test_new_backend.py": "a new backend, on copied packages",
    "runtimes/backends/test_openvino_foreign.py": "backends/openvino: files of other formats",
    "runtimes/backends/ort/test_telemetry.py": "backends/ort: what it must not send",
    "runtimes/backends/test_pt2_trust.py": "pt2.py: what may be opened",
    "runtimes/backends/test_pt2_walk.py": "pt2.py: the device contract",
    "runtimes/bundle/test_artifact_paths.py": "artifact.py: spellings of paths",
    "runtimes/commands/test_check_skips.py": "check.py: what is skipped",
    "runtimes/diffusion/samplers/test_new_sampler.py": "a new sampler, on copied packages",
    "runtimes/backends/trt/test_bindings.py": "backends/trt: the names that it uses",
    "runtimes/device/test_step.py": "step.cu: the kernel, which is no module",
    "runtimes/run/test_closing.py": "session.py: after it is closed",
    "runtimes/run/test_kills.py": "runs that are killed",
    "runtimes/run/test_opening.py": "the package opening, whose modules work together",
    "runtimes/run/test_overlap.py": "runs and sessions: what is done beside the drawing",
    "runtimes/run/test_limits.py": "full disks, and memory",
    "runtimes/run/test_session_numbers.py": "session.py: what programs give it",
    "runtimes/test_cache_unusable.py": "cache.py: where the system refuses it",
    "runtimes/test_dropped_files.py": "registries, where nothing else is installed",
    "runtimes/test_without_torch.py": "all of drun, where nothing else is installed",
    "trainer/objectives/test_learned_variance.py": "ddpm.py: the hybrid loss",
    "trainer/objectives/test_new_objective.py": "a new objective, on copied packages",
    "trainer/test_cuda.py": "what only a GPU shows",
    "trainer/test_mps.py": "what a Mac's GPU lacks",
    "trainer/test_recipes.py": "the recipes, which are no modules",
}


def namesake(module: Path) -> Path | None:
    """The test file of a module, below tests/; None for an `__init__` that only imports or says nothing."""
    folder, package, *within = module.relative_to(ROOT).parts
    if module.name != "__init__.py":
        return Path(folder, *within[:-1], f"test_{module.stem}.py")
    body = ast.parse(module.read_text(encoding="utf-8")).body
    if all(isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or is_all(node) for node in body):
        return None
    return Path(folder, *within[:-1], f"test_{[package, *within][-2]}.py")


def is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]


def modules() -> dict[str, Path]:
    """The modules that need a test file, as the list above names them -> that file."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder / package).rglob("*.py")):
            if test := namesake(path):
                named = path.parent if path.name == "__init__.py" else path
                found[named.relative_to(ROOT / folder).as_posix()] = test
    return found


MODULES = modules()
TESTS = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_module_has_its_test_file_or_a_line_that_says_why_not() -> None:
    assert len(MODULES) > 150
    assert [name for name, test in MODULES.items() if test not in TESTS and name not in ELSEWHERE] == []


def test_what_is_tested_elsewhere_is_there_and_has_no_test_file() -> None:
    assert [name for name in ELSEWHERE if name not in MODULES] == []
    assert [name for name in ELSEWHERE if MODULES[name] in TESTS] == []


@pytest.mark.parametrize("reason", sorted(set(ELSEWHERE.values())))
def test_where_it_is_tested_is_there(reason: str) -> None:
    """The first is named by its path, others lie anywhere."""
    first, *others = (word.strip(",") for word in reason.split() if word.strip(",").endswith(".py"))
    assert Path(first) in TESTS
    assert {path.name for path in TESTS} >= set(others)


def test_every_test_file_is_of_a_module_or_says_what_it_is_of() -> None:
    """Those directly in tests/ are of all packages, and each says it at its head."""
    of_all = {path for path in TESTS if len(path.parts) == 1}
    assert sorted(map(str, TESTS - set(MODULES.values()) - of_all - set(map(Path, ACROSS)))) == []
    assert sorted(set(map(Path, ACROSS)) - TESTS) == []
    assert set(map(Path, ACROSS)) & set(MODULES.values()) == set()
    assert [path for path in of_all if not ast.get_docstring(ast.parse((ROOT / "tests" / path).read_text()))] == []
