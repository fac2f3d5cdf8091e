"""Images over HTTP: one opened bundle, many requests at once, each answered as if it were alone.

    pip install 'dexport[ort]' fastapi uvicorn
    BUNDLE=bundles/digits uvicorn --app-dir examples/service service:app
    curl 'localhost:8000/image.png?seed=7&label=3' > three.png
    curl 'localhost:8000/grid.png?n=16&steps=50' > grid.png

The docs of the API are at /docs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

import drun
from drun.errors import UserError
from drun.run.images import grid, to_pil

Seed = Annotated[int, Query(ge=0, lt=2**64, description="sample i of a seed is the same image everywhere")]
Index = Annotated[int, Query(ge=0, description="the sample of the seed")]
Steps = Annotated[int, Query(ge=1, le=1000, description="sampling steps")]
Guidance = Annotated[float, Query(description="classifier-free guidance weight; 1 is off")]
Label = Annotated[str | None, Query(description="a class by number or name; without it, all in turn")]


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[None]:
    """Open the bundle of $BUNDLE (default: the newest) on $BACKEND (default: the preferred one) until the end."""
    app.state.bundle = drun.load(os.environ.get("BUNDLE"))
    with app.state.bundle.session(os.environ.get("BACKEND")) as session:
        app.state.session = session
        yield


app = FastAPI(title="drun", lifespan=opened)


@app.exception_handler(UserError)
async def refuse(request: Request, error: UserError) -> JSONResponse:
    """Answer a request that does not fit the model with the sentence that the command would print."""
    return JSONResponse({"error": str(error)}, status_code=400)


@app.get("/")
def model(request: Request) -> dict[str, Any]:
    """Describe the model that the service draws from."""
    manifest, opened = request.app.state.bundle.manifest, request.app.state.session.opened
    classes = manifest.classes
    return {
        "model": manifest.model.name,
        "runs_on": opened.describe(),
        "shape": manifest.data.shape,
        "classes": classes and (classes.names or classes.count),
    }


# Plain functions, not coroutines: the framework runs them in threads, and the session lets one draw at a time.
@app.get("/image.png")
def image(
    request: Request, seed: Seed = 0, index: Index = 0, label: Label = None, steps: Steps = 250, cfg: Guidance = 1.0
) -> Response:
    """Sample `index` of a seed."""
    return _png(_draw(request, 1, seed, index, label, steps, cfg)[0])


@app.get("/grid.png")
def sheet(
    request: Request,
    n: Annotated[int, Query(ge=1, le=64)] = 16,
    seed: Seed = 0,
    label: Label = None,
    steps: Steps = 250,
    cfg: Guidance = 1.0,
) -> Response:
    """The first n samples of a seed, tiled."""
    return _png(grid(_draw(request, n, seed, 0, label, steps, cfg)))


def _draw(
    request: Request, n: int, seed: int, first: int, label: str | None, steps: int, cfg: float
) -> np.ndarray[Any, Any]:
    images: np.ndarray[Any, Any] = request.app.state.session.sample(
        n, seed=seed, first=first, labels=label, steps=steps, cfg=cfg
    )
    return images


def _png(pixels: np.ndarray[Any, Any]) -> Response:
    file = BytesIO()
    to_pil(pixels).save(file, format="PNG")
    return Response(file.getvalue(), media_type="image/png")
