"""Every sampler against its paper's formula, written here as an independent float64 loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest

from drun.backends import null
from drun.bundle import reading as bundles
from drun.diffusion import samplers
from drun.diffusion.loop import sample
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.table import StepTable
from drun.errors import ConfigError

Array = np.ndarray
Network = Callable[[Array, float], Array]
ToX0 = Callable[[Array, float, float, float], Array]

SHAPE = (2, 3, 4, 4)
PREDICTIONS = ["noise", "x0", "velocity", "score"]
CLIPS = {
    "no clip": {"clip_x0": False},
    "clip":    {"clip_x0": True},
    "dynamic": {"clip_x0": False, "dynamic_threshold": 0.9},
}  # fmt: skip

PROCESS = DiscreteProcess("linear")
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
INTEGER_GRIDS = {"leading": range(0, 1000, 125), "trailing": range(124, 1000, 125)}
N = 8


def network(x: Array, t: float) -> Array:
    """Any function will do: the samplers must agree on what a wrong network makes them do, too."""
    return np.tanh(0.7 * x + 0.001 * t) - 0.2 * x


def clean(prediction: str, x: Array, m: Array, abar: float) -> Array:
    """x0 from the definition of each prediction."""
    alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    if prediction == "noise":
        return (x - sigma * m) / alpha
    if prediction == "velocity":
        return alpha * x - sigma * m
    if prediction == "score":
        return (x + sigma**2 * m) / alpha
    return m


def bounded(x0: Array, clip: str) -> Array:
    """Ho et al. 2020's clipping, or Saharia et al. 2022's dynamic thresholding at the 90th percentile."""
    if clip == "no clip":
        return x0
    if clip == "clip":
        return np.clip(x0, -1, 1)
    images = []
    for image in x0:
        s = max(1.0, float(np.percentile(np.abs(image), 90)))
        images.append(np.clip(image, -s, s) / s)
    return np.stack(images)


def reference_x0(prediction: str, clip: str) -> ToX0:
    """(x, t, abar) -> the bounded clean image."""
    return lambda x, t, abar: bounded(clean(prediction, x, network(x, t), abar), clip)


def noises(count: int) -> tuple[Array, list[Array]]:
    """The initial x and `count` draws of z."""
    rng = np.random.default_rng(3)
    return rng.standard_normal(SHAPE), list(rng.standard_normal((count, *SHAPE)))


def walk(table: StepTable, x: Array, z: list[Array], denoise: Network = network) -> Array:
    draws: Iterator[Array] = iter(z)
    return sample(lambda x, t, w: denoise(x, t), x.copy(), table, lambda: next(draws))


def agree(name: str, prediction: str, options: dict[str, object], reference: Array, steps: int = N) -> None:
    x, z = noises(steps)
    table = samplers.step_table(name, PROCESS, prediction, steps, options)
    np.testing.assert_allclose(walk(table, x, z), reference, rtol=1e-8, atol=1e-8)


# --- ancestral sampling


def ddpm(x0_at: ToX0, kept: list[int], variance: str, x: Array, z: list[Array]) -> Array:
    """Ho et al. 2020, eq. 6-7, with the respaced betas of Nichol & Dhariwal 2021, eq. 19. `kept` rises."""
    abars = ABAR[kept]
    previous = np.append(1.0, abars[:-1])
    betas = 1 - abars / previous
    for i in reversed(range(len(kept))):
        x0 = x0_at(x, kept[i], abars[i])
        mean = math.sqrt(previous[i]) * betas[i] / (1 - abars[i]) * x0
        mean = mean + math.sqrt(1 - betas[i]) * (1 - previous[i]) / (1 - abars[i]) * x
        small = betas[i] * (1 - previous[i]) / (1 - abars[i])
        x = mean if i == 0 else mean + math.sqrt(small if variance == "fixed_small" else betas[i]) * z.pop(0)
    return x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_on_a_subset(prediction: str, clip: str, variance: str) -> None:
    kept = [round(i * 999 / 7) for i in range(8)]
    reference = ddpm(reference_x0(prediction, clip), kept, variance, *noises(N))
    agree("ddpm", prediction, CLIPS[clip] | {"variance": variance}, reference)


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
def test_ddpm_on_other_grids(grid: str) -> None:
    reference = ddpm(reference_x0("noise", "clip"), list(INTEGER_GRIDS[grid]), "fixed_small", *noises(N))
    agree("ddpm", "noise", {"grid": grid}, reference)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_in_all_steps_is_the_original_chain(variance: str) -> None:
    """Ho et al. 2020, algorithm 2, in its noise form and with the training betas: no respacing, no clipping."""
    betas = np.linspace(1e-4, 0.02, 1000)
    x, z = noises(1000)
    draws = iter(z)
    for t in reversed(range(1000)):
        mean = (x - betas[t] / math.sqrt(1 - ABAR[t]) * network(x, t)) / math.sqrt(1 - betas[t])
        small = betas[t] * (1 - ABAR[t - 1]) / (1 - ABAR[t])
        x = mean if t == 0 else mean + math.sqrt(small if variance == "fixed_small" else betas[t]) * next(draws)
    agree("ddpm", "noise", {"clip_x0": False, "variance": variance}, x, steps=1000)


def test_ddpm_draws_no_noise_on_the_last_step() -> None:
    table = samplers.step_table("ddpm", PROCESS, "noise", 10)
    assert [row.c > 0 for row in table.rows] == [True] * 9 + [False]
    assert table.num_noises == 9


# --- DDIM


def ddim(x0_at: ToX0, visited: list[int], eta: float, x: Array, z: list[Array]) -> Array:
    """Song et al. 2021, eq. 12 and 16; eps follows from the bounded x0. `visited` falls."""
    for t, following in pairwise([*visited, None]):
        abar, abar_next = ABAR[t], 1.0 if following is None else ABAR[following]
        x0 = x0_at(x, t, abar)
        eps = (x - math.sqrt(abar) * x0) / math.sqrt(1 - abar)
        s = eta * math.sqrt((1 - abar_next) / (1 - abar)) * math.sqrt(1 - abar / abar_next)
        x = math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next - s**2) * eps
        if s > 0:
            x = x + s * z.pop(0)
    return x


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim(prediction: str, clip: str, eta: float) -> None:
    visited = list(INTEGER_GRIDS["trailing"])[::-1]
    reference = ddim(reference_x0(prediction, clip), visited, eta, *noises(N))
    agree("ddim", prediction, CLIPS[clip] | {"eta": eta}, reference)


def test_ddim_on_the_leading_grid() -> None:
    visited = list(INTEGER_GRIDS["leading"])[::-1]
    reference = ddim(reference_x0("noise", "clip"), visited, 0.5, *noises(N))
    agree("ddim", "noise", {"grid": "leading", "eta": 0.5}, reference)


def test_ddim_with_eta_1_is_ancestral() -> None:
    """Song et al. 2021, section 4.1."""
    x, z = noises(N)
    kept = [round(i * 999 / 7) for i in range(8)]
    reference = ddpm(reference_x0("noise", "clip"), kept, "fixed_small", x, z)
    agree("ddim", "noise", {"grid": "respaced", "eta": 1}, reference)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_ddim_refuses_an_eta_outside_0_to_1(eta: float) -> None:
    with pytest.raises(ConfigError, match=r"eta is a share of the ancestral noise, got .*: choose 0 to 1"):
        samplers.step_table("ddim", PROCESS, "noise", 10, {"eta": eta})


# --- solvers of the probability-flow ODE


def sigma_of(t: float) -> float:
    """Between whole times log(sigma) is linear, as in k-diffusion."""
    return math.exp(np.interp(t, np.arange(1000), 0.5 * np.log((1 - ABAR) / ABAR)))


def karras_sigmas(n: int) -> list[float]:
    """Karras et al. 2022, eq. 5."""
    low, high = sigma_of(0) ** (1 / 7), sigma_of(999) ** (1 / 7)
    return [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]


def sigmas_of_grid(grid: str) -> list[float]:
    return karras_sigmas(N) if grid == "karras" else [sigma_of(t) for t in INTEGER_GRIDS[grid]][::-1]


def denoiser(prediction: str, clip: str) -> Callable[[Array, float], Array]:
    """D(x_hat, sigma) of k-diffusion: the state is x_hat = x sqrt(1 + sigma^2), the noise level sigma."""

    def denoise(x_hat: Array, sigma: float) -> Array:
        t = np.interp(math.log(sigma), 0.5 * np.log((1 - ABAR) / ABAR), np.arange(1000))
        x, abar = x_hat / math.sqrt(1 + sigma**2), 1 / (1 + sigma**2)
        return bounded(clean(prediction, x, network(x, t), abar), clip)

    return denoise


def euler(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Karras et al. 2022, algorithm 1 without lines 6-8."""
    x = x * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in pairwise([*sigmas, 0.0]):
        x = x + (following - sigma) * (x - denoise(x, sigma)) / sigma
    return x


def heun(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Karras et al. 2022, algorithm 1."""
    x = x * math.sqrt(1 + sigmas[0] ** 2)
    for sigma, following in pairwise([*sigmas, 0.0]):
        d = (x - denoise(x, sigma)) / sigma
        x_next = x + (following - sigma) * d
        if following > 0:
            d_next = (x_next - denoise(x_next, following)) / following
            x_next = x + (following - sigma) * (d + d_next) / 2
        x = x_next
    return x


def dpmpp_2m(denoise: Callable[[Array, float], Array], sigmas: list[float], x: Array) -> Array:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, in lambda = log(alpha/sigma) with the state x itself."""
    alphas = [1 / math.sqrt(1 + sigma**2) for sigma in sigmas]
    lambdas = [-math.log(sigma) for sigma in sigmas]
    estimates: list[Array] = []
    for i, (alpha, sigma) in enumerate(zip(alphas, sigmas, strict=True)):
        estimates.append(denoise(x / alpha, sigma))
        if i == len(sigmas) - 1:
            return estimates[-1]
        h, d = lambdas[i + 1] - lambdas[i], estimates[-1]
        if i > 0:
            r = (lambdas[i] - lambdas[i - 1]) / h
            d = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
        noise_scale = sigmas[i + 1] * alphas[i + 1] / (sigma * alpha)
        x = noise_scale * x - alphas[i + 1] * (math.exp(-h) - 1) * d
    raise AssertionError("no steps")


SOLVERS = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", SOLVERS)
def test_solver(prediction: str, clip: str, name: str) -> None:
    reference = SOLVERS[name](denoiser(prediction, clip), karras_sigmas(N), noises(0)[0])
    agree(name, prediction, CLIPS[clip], reference)


@pytest.mark.parametrize("grid", INTEGER_GRIDS)
@pytest.mark.parametrize("name", SOLVERS)
def test_solver_on_a_grid_of_whole_times(grid: str, name: str) -> None:
    reference = SOLVERS[name](denoiser("velocity", "no clip"), sigmas_of_grid(grid), noises(0)[0])
    agree(name, "velocity", {"grid": grid}, reference)


@pytest.mark.parametrize("grid", ["karras", "trailing"])
def test_ddim_is_euler(grid: str) -> None:
    """Song et al. 2021, section 4.3: DDIM is Euler's method in x/alpha over sigma/alpha."""
    reference = euler(denoiser("noise", "clip"), sigmas_of_grid(grid), noises(0)[0])
    agree("ddim", "noise", {"grid": grid}, reference)


@pytest.mark.parametrize(("name", "calls"), [("ddpm", 18), ("ddim", 18), ("euler", 18), ("heun", 35), ("dpmpp_2m", 18)])
def test_network_calls(name: str, calls: int) -> None:
    assert len(samplers.step_table(name, PROCESS, "noise", 18).rows) == calls


# --- all samplers


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip_x0", [False, True])
def test_one_step_gives_the_clean_image(name: str, prediction: str, clip_x0: bool) -> None:
    table = samplers.step_table(name, PROCESS, prediction, 1, {"grid": "trailing", "clip_x0": clip_x0})
    x, z = noises(0)
    reference = reference_x0(prediction, "clip" if clip_x0 else "no clip")(x, 999, ABAR[999])
    np.testing.assert_allclose(walk(table, x, z), reference, rtol=1e-10)


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
def test_all_steps(name: str) -> None:
    """With the exact denoiser of N(0, 1/4), T steps make images of that distribution."""
    process = DiscreteProcess("cosine")
    table = samplers.step_table(name, process, "x0", 1000, {"grid": "trailing", "clip_x0": False})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3, 8, 8))

    def gaussian(x: Array, t: float) -> Array:
        alpha, sigma = process.alpha(t), process.sigma(t)
        return alpha / 4 / (alpha**2 / 4 + sigma**2) * x

    draws = (rng.standard_normal(x.shape) for _ in range(table.num_noises))
    x = sample(lambda x, t, w: gaussian(x, t), x, table, lambda: next(draws))
    assert x.std() == pytest.approx(0.5, abs=0.02)
    assert x.mean() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
def test_columns_are_python_floats(name: str) -> None:
    """A numpy float64 scalar would turn float32 arrays into float64."""
    for row in samplers.step_table(name, PROCESS, "velocity", 5).rows:
        assert all(type(value) is float for value in (row.t, row.p, row.q, row.a, row.b, row.c, row.w, *row.d))


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_clipping_bounds_the_first_step_of_the_cosine_schedule(name: str) -> None:
    """Unclipped, an error of the first noise estimate grows by 1/sqrt(abar) or so."""
    process = DiscreteProcess("cosine")
    x, z = noises(2)

    def first_state(clip_x0: bool) -> float:
        table = samplers.step_table(name, process, "noise", 1000, {"clip_x0": clip_x0})
        return float(np.abs(walk(StepTable(table.rows[:1], table.clip), x, z)).max())

    assert first_state(clip_x0=True) < 2 * np.abs(x).max()
    assert first_state(clip_x0=False) > 20 * np.abs(x).max()


def test_unclipped_tables_do_not_pass_through_the_clean_image() -> None:
    """In float32, x0 = x/alpha - ... would lose digits at high noise."""
    rows = samplers.step_table("ddim", DiscreteProcess("cosine"), "noise", 1000, {"clip_x0": False}).rows
    assert all((row.p, row.q) == (0.0, 1.0) for row in rows)


# --- order of convergence

ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 2}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name: str, prediction: str, make_bundle: Callable[..., object]) -> None:
    """The null backend's probability-flow ODE has the solution x(s) = x(S) sqrt((STD^2 + s^2) / (STD^2 + S^2))
    in x/alpha over s = sigma/alpha; the error at the last time before the jump to x0 falls as steps^-order."""
    bundle = bundles.read(make_bundle(process=PROCESS.to_dict(), prediction=prediction))  # type: ignore[arg-type]
    backend = null.Runtime(bundle)
    counts = [40, 80, 160]
    errors = [_ode_error(name, prediction, backend, count) for count in counts]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-ORDERS[name], abs=0.15)


def _ode_error(name: str, prediction: str, backend: null.Runtime, num_steps: int) -> float:
    table = samplers.step_table(name, PROCESS, prediction, num_steps, {"grid": "karras", "clip_x0": False})
    before_last = StepTable(table.rows[:-1])
    x = noises(0)[0]
    start, end = sigma_of(999), sigma_of(0)
    x_hat = x * math.sqrt(1 + start**2) * math.sqrt((null.STD**2 + end**2) / (null.STD**2 + start**2))
    final = walk(before_last, x, [], lambda x, t: backend.predict(x, np.full(len(x), t)))
    return float(np.abs(final * math.sqrt(1 + end**2) - x_hat).max())


# --- names and options


def test_the_samplers_of_the_issue_are_there() -> None:
    assert {"ddpm", "ddim", "euler", "heun", "dpmpp_2m"} <= set(samplers.names())


def test_unknown_sampler_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown sampler 'plms': choose one of ddim, ddpm, dpmpp_2m, euler, "):
        samplers.step_table("plms", PROCESS, "noise", 10)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddpm", {"eta": "1"}, "sampler 'ddpm' has no option 'eta': choose from grid, variance, clip_x0"),
        ("ddim", {"eta": "much"}, "option eta got 'much', expected a finite number"),
        ("ddim", {"eta": math.nan}, "option eta got 'nan', expected a finite number"),
        ("ddim", {"eta": {}}, "option eta got '{}', expected a finite number"),
        ("ddim", {"grid": []}, r"option grid got '\[\]', expected text"),
        ("ddim", {"eta": True}, "option eta got 'True', expected a finite number"),
        ("ddim", {"eta": None}, "option eta got 'None', expected a finite number"),
        ("ddim", {"clip_x0": "perhaps"}, "option clip_x0 got 'perhaps', expected true or false"),
        ("ddpm", {"variance": "learned"}, "unknown variance 'learned': choose one of fixed_small, fixed_large"),
        ("heun", {"dynamic_threshold": "2"}, "dynamic_threshold is a quantile, got 2.0: choose 0"),
        ("euler", {"grid": "spiral"}, "unknown grid 'spiral'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        samplers.step_table(name, PROCESS, "noise", 10, options)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False), ("1", True)])
def test_options_are_read_from_text(text: str, value: bool) -> None:
    assert samplers.resolve("ddim", {"clip_x0": text, "eta": "0.5"}) == {
        "grid": "auto", "eta": 0.5, "clip_x0": value, "dynamic_threshold": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
def test_every_sampler_says_what_it_is(name: str) -> None:
    assert samplers.summary(name).endswith(".")
    assert samplers.resolve(name, {}) == samplers.defaults(name)
