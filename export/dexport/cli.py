"""The `dexport` command: parses, resolves, prints and calls the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drun.console import run_app

app = typer.Typer(
    help="Turn checkpoints into verified bundles. Add --debug to any command for a traceback.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


@app.command()
def onnx(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt or .safetensors checkpoint.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Bundle (default: bundles/<file stem>/).")] = None,
    batch: Annotated[str, typer.Option(help="Images a call: 8 for a static graph, 1..64 for a dynamic one.")] = "1..64",
    weights: Annotated[str, typer.Option(help="ema or online.")] = "ema",
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="What the checkpoint does not say; repeatable.")
    ] = [],
    trajectory_steps: Annotated[
        int, typer.Option(min=1, help="Steps of the same-noise trajectory in the proof, by the bundle's own sampler.")
    ] = 25,
    vae: Annotated[
        str,
        typer.Option(
            metavar="auto|none|NAME_OR_DIR",
            help="Decoder of a latent model; auto: of the VAE that the checkpoint names, if it is here or published.",
        ),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle of something else.")] = False,
) -> None:
    """Export the denoiser to ONNX, prove that it computes what eager PyTorch computes, and write a bundle."""
    from dexport import commands

    commands.export("onnx", checkpoint, out, batch, weights, set_, trajectory_steps, vae, force)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    backend: Annotated[list[str], typer.Option(help="Backend to verify; repeatable (default: all that can run).")] = [],
) -> None:
    """Run the golden file on every backend; exit code 3 if one fails parity."""
    from dexport import commands

    commands.verify(bundle, backend)


def main() -> None:
    run_app(app)
