"""The `drun` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from drun.console.app import ConsoleGroup, new_app, run_app
from drun.errors import ConfigError
from drun.settings import (
    DEFAULT_BATCH,
    DEFAULT_OPTIONS,
    DEFAULT_STEPS,
    MAX_THREADS,
    RuntimeOptions,
    SamplingSettings,
)


class Commands(ConsoleGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command as typer does. Raises ConfigError, with the command to type, if the first word is a path."""
        if args[0] not in self.commands and Path(args[0]).exists():
            command = shlex.join(["drun", "--bundle", *args])
            raise ConfigError(f"'{args[0]}' is not a command: to sample from a bundle, type {command}")
        return super().resolve_command(ctx, args)


app = new_app("drun", "Sample images from a bundle on any backend, without PyTorch.", Commands)

BackendId = Annotated[
    str | None,
    typer.Option(help="Runtime, see 'drun backends', or auto: the one of dbench pick (default: the first that can)."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Arithmetic: fp32, tf32, fp16, bf16 or int8, or weights in fewer bits (default: the artifact's)."
    ),
]
ArtifactId = Annotated[
    str | None, typer.Option(help="Artifact to open, such as onnx-fp32 (default: the first that fits).")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        "--unit",
        help="Device: cpu, cuda, webgpu or mps; of Core ML cpu, gpu, ane or all (default: the backend's first here).",
    ),
]
Hint = Annotated[
    str | None,
    typer.Option(
        help="latency: a batch by all threads at once, or throughput: in equal parts, a thread each (default: halves)."
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Open artifacts that can execute code, such as a .pt2.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile by PyTorch (pt2): minutes first, then faster calls.")]
Bundle = Annotated[Path | None, typer.Argument(help="Bundle folder (default: the newest under bundles/).")]
Threads = Annotated[int, typer.Option(min=0, max=MAX_THREADS, help="Processor threads; 0: the runtime's choice.")]


@app.command("sample")
@app.callback(invoke_without_command=True)
def sample(
    context: typer.Context,
    backend: BackendId = None,
    steps: Annotated[int, typer.Option(help="Sampling steps; at most T for a model of T timesteps.")] = DEFAULT_STEPS,
    bundle: Annotated[Path | None, typer.Option(help="Bundle folder (default: the newest under bundles/).")] = None,
    sampler: Annotated[str | None, typer.Option(help="See 'drun samplers' (default: the bundle's).")] = None,
    set_: Annotated[list[str], typer.Option("--set", metavar="OPTION=VALUE", help="Sampler option; repeatable.")] = [],
    n: Annotated[int, typer.Option("-n", "--num-images", min=1, max=10**7, help="Number of images.")] = 16,
    batch: Annotated[int, typer.Option(min=1, max=2**16, help="Images computed at a time.")] = DEFAULT_BATCH,
    seed: Annotated[
        int, typer.Option(min=0, help="Sample i of a seed is the same image everywhere.")
    ] = SamplingSettings.seed,
    labels: Annotated[str | None, typer.Option(help="207,pullover | balanced | random (default: balanced).")] = None,
    cfg: Annotated[float, typer.Option(help="Classifier-free guidance weight; 1 is off.")] = SamplingSettings.cfg,
    interval: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Guided part of the model's time.")] = None,
    cfg_channels: Annotated[
        str, typer.Option(help="Number of leading channels that are guided, or all (default: the bundle's).")
    ] = "",
    precision: Precision = None,
    artifact: ArtifactId = None,
    device: Device = DEFAULT_OPTIONS.device,
    hint: Hint = DEFAULT_OPTIONS.hint,
    trust: Trust = DEFAULT_OPTIONS.trust,
    compile_: Compile = DEFAULT_OPTIONS.compile,
    state_dtype: Annotated[str, typer.Option(help="Sampler state: float32 or float64.")] = SamplingSettings.state_dtype,
    uint8: Annotated[
        str, typer.Option(help="To 8 bits by round, floor (REPA) or adm (DiT, SiT).")
    ] = SamplingSettings.uint8,
    noise: Annotated[Path | None, typer.Option(help="Use this noise: .npz with x (N,C,H,W) and z (R,N,C,H,W).")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder (default: out/<bundle>/<settings>/).")] = None,
    save_raw: Annotated[bool, typer.Option("--save-raw", help="Also write the final float states to raw.npz.")] = False,
    trajectory: Annotated[Path | None, typer.Option(metavar="FILE.webp", help="Animate the first batch.")] = None,
    shard: Annotated[str, typer.Option(metavar="I/K", help="Compute every K-th image from the I-th on.")] = "0/1",
    threads: Threads = DEFAULT_OPTIONS.threads,
) -> None:
    """Sample images from a bundle. Finished images are kept: the same command continues after an interruption."""
    if not _is_run(context):
        return
    from drun.commands import sample

    typed = sample.RunOptions(
        backend, precision, artifact, RuntimeOptions(threads, device, hint, trust, compile_), sampler, set_, steps,
        seed, labels, cfg, interval, cfg_channels, state_dtype, uint8, noise, n, batch, shard, out, save_raw,
        trajectory,
    )  # fmt: skip
    sample.sample(bundle, typed)


def _is_run(context: typer.Context) -> bool:
    """Whether images are to be drawn, and not another command to be run.

    Raises:
        ConfigError: options of a run stand before another command, or there are none.
    """
    given = _given(context)
    if command := context.invoked_subcommand:
        if given:
            raise ConfigError(f"{given[0]} stands before '{command}', expected behind it: drun {command} ...")
        return False
    if not given and context.parent is None:
        raise ConfigError("got no option of a run, expected one such as --steps 250: type drun sample for the defaults")
    return True


def _given(context: typer.Context) -> list[str]:
    """The options of a run that were typed, without those that every command has."""
    own = (parameter for parameter in context.command.params if parameter.name in context.params)
    sources = ((parameter.opts[0], context.get_parameter_source(parameter.name or "")) for parameter in own)
    return [flag for flag, source in sources if source is not None and source.name == "COMMANDLINE"]


@app.command()
def check(
    bundle: Bundle = None,
    backend: BackendId = None,
    precision: Precision = None,
    artifact: ArtifactId = None,
    device: Device = DEFAULT_OPTIONS.device,
    threads: Threads = DEFAULT_OPTIONS.threads,
    trust: Trust = DEFAULT_OPTIONS.trust,
    compile_: Compile = DEFAULT_OPTIONS.compile,
    check_all: Annotated[bool, typer.Option("--all", help="Check every artifact, backend and precision.")] = False,
) -> None:
    """Recompute every sha256 and re-run the golden file; exit code 3 if a backend fails parity."""
    from drun.commands import check

    options = RuntimeOptions(threads, device, trust=trust, compile=compile_)
    check.check(bundle, backend, precision, artifact, options, check_all)


@app.command()
def info(bundle: Bundle = None) -> None:
    """Show what a bundle holds."""
    from drun.commands import info

    info.info(bundle)


@app.command()
def backends() -> None:
    """List the backends, whether each can run here, and if not, why and how to install it."""
    from drun.commands import info

    info.backends()


@app.command()
def samplers() -> None:
    """List the samplers and their options with defaults."""
    from drun.commands import info

    info.samplers()


@app.command()
def cache(clear: Annotated[bool, typer.Option("--clear", help="Remove everything from the cache.")] = False) -> None:
    """List what the cache keeps between runs, such as decoded training images."""
    from drun.commands import cache

    cache.cache(clear)


def main() -> None:
    run_app(app)
