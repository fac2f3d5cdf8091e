"""What holds for every sampler: one step, all steps, the order of convergence, names and options."""

from __future__ import annotations

import math

import numpy as np
import pytest
from on_chains import ABAR, PREDICTIONS, PROCESS, network, reference_x0, sigma_of
from walks import Array, noises, walk

from drun.diffusion import samplers
from drun.diffusion.loop import sample
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import StepTable
from drun.errors import ConfigError


@pytest.mark.parametrize(("name", "calls"), [("ddpm", 18), ("ddim", 18), ("euler", 18), ("heun", 35), ("dpmpp_2m", 18)])
def test_network_calls(name: str, calls: int) -> None:
    assert len(samplers.step_table(name, PROCESS, "noise", 18).rows) == calls


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip_x0", [False, True])
def test_one_step_gives_the_clean_image(name: str, prediction: str, clip_x0: bool) -> None:
    table = samplers.step_table(name, PROCESS, prediction, 1, {"grid": "trailing", "clip_x0": clip_x0})
    x, z = noises(0)
    reference = reference_x0(prediction, "clip" if clip_x0 else "no clip")(x, 999, ABAR[999])
    np.testing.assert_allclose(walk(table, x, z, network), reference, rtol=1e-10)


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


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpmpp_2m"])
@pytest.mark.parametrize("path", ["linear", "cosine", "vp"])
@pytest.mark.parametrize("noise_time", [0, 1])
def test_discrete_samplers_walk_a_flow_too(name: str, path: str, noise_time: int) -> None:
    """With the exact denoiser of N(0, 1/4) images the final states have its deviation."""
    process = FlowProcess(path, noise_time, margin=1e-5 if path == "vp" else 0.0)

    def exact(x: Array, t: float) -> Array:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        variance = alpha**2 / 4 + sigma**2
        a, b = process.velocity(t)
        return (a * alpha / 4 + b * sigma) / variance * x

    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1, 4, 4))
    table = samplers.step_table(name, process, "velocity", 200, {"clip_x0": False})
    final = sample(lambda x, t, w: exact(x, t), x.copy(), table, lambda: rng.standard_normal(x.shape))
    assert np.isfinite(final).all()
    assert final.std() == pytest.approx(0.5, rel=0.04)
    if name != "ddpm":  # deterministic: the flow is x0 = eps / 2
        np.testing.assert_allclose(final, x / 2, atol=0.03)


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
def test_columns_are_python_floats(name: str) -> None:
    """A numpy float64 scalar would turn float32 arrays into float64."""
    for row in samplers.step_table(name, PROCESS, "velocity", 5).rows:
        assert all(type(value) is float for value in (row.t, row.p, row.q, row.a, row.b, row.c, row.w, *row.d))


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_clipping_bounds_the_first_step_of_the_cosine_schedule(name: str) -> None:
    """Unclipped, an error of the first noise estimate grows by 1/sqrt(abar) or so."""
    process = DiscreteProcess("cosine")
    x, _ = noises(0)

    def first_state(clip_x0: bool) -> float:
        table = samplers.step_table(name, process, "noise", 1000, {"clip_x0": clip_x0})
        first = StepTable(table.rows[:1], table.clip)
        return float(np.abs(walk(first, *noises(first.num_noises), network)).max())

    assert first_state(clip_x0=True) < 2 * np.abs(x).max()
    assert first_state(clip_x0=False) > 20 * np.abs(x).max()


def test_unclipped_tables_do_not_pass_through_the_clean_image() -> None:
    """In float32, x0 = x/alpha - ... would lose digits at high noise."""
    rows = samplers.step_table("ddim", DiscreteProcess("cosine"), "noise", 1000, {"clip_x0": False}).rows
    assert all((row.p, row.q) == (0.0, 1.0) for row in rows)


#: Standard deviation of the images of which the solution is known
STD = 0.5
ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 2}


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name: str, prediction: str) -> None:
    """Of N(0, STD^2) images the probability-flow ODE is x(s) = x(S) sqrt((STD^2 + s^2) / (STD^2 + S^2)) in x/alpha
    over s = sigma/alpha; the error at the last time before the jump to x0 falls as steps^-order."""
    counts = [40, 80, 160]
    errors = [_ode_error(name, prediction, count) for count in counts]
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(-ORDERS[name], abs=0.15)


def _ode_error(name: str, prediction: str, num_steps: int) -> float:
    table = samplers.step_table(name, PROCESS, prediction, num_steps, {"grid": "karras", "clip_x0": False})
    x = noises(0)[0]
    final = walk(StepTable(table.rows[:-1]), x, [], lambda x, t: _exact(prediction, x, sigma_of(t)))
    start, end = sigma_of(999), sigma_of(0)
    x_hat = x * math.sqrt(1 + start**2) * math.sqrt((STD**2 + end**2) / (STD**2 + start**2))
    return float(np.abs(final * math.sqrt(1 + end**2) - x_hat).max())


def _exact(prediction: str, x: Array, ratio: float) -> Array:
    """What the exact denoiser of N(0, STD^2) images says, by the definition of each prediction."""
    alpha = 1 / math.sqrt(1 + ratio**2)
    sigma = alpha * ratio
    x0 = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * x
    eps = (x - alpha * x0) / sigma
    return {"noise": eps, "x0": x0, "velocity": alpha * eps - sigma * x0, "score": -eps / sigma}[prediction]


def test_the_samplers_of_the_readme_are_there() -> None:
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
        ("heun", {"dynamic_threshold": "2"}, r"dynamic_threshold got 2.0, expected a quantile from 0 \(off\) to 1"),
        ("euler", {"grid": "spiral"}, "unknown grid 'spiral'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        samplers.step_table(name, PROCESS, "noise", 10, options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("euler_maruyama", {"form": "song"}, "form got 'song', expected one of repa, sit"),
        ("euler_maruyama", {"diffusion_form": "SBDM"}, "diffusion_form got 'SBDM', expected one of constant, sbdm"),
        ("euler_maruyama", {"last_step": "final"}, "last_step got 'final', expected one of mean, tweedie, euler, none"),
        ("euler_maruyama", {"last_step_size": 1.0}, "last_step_size got 1.0, expected above 0 and below 1"),
        ("heun", {"last_step": "mean"}, "last_step got 'mean', expected one of auto, euler, heun"),
        ("heun", {"last_step": "heun", "grid": "karras"}, "got .* grid 'karras', expected a flow at even times"),
        ("heun", {"last_step": "heun", "clip_x0": True}, "follows the velocity cannot be clipped: set clip_x0=false"),
        ("euler", {"grid": "leading"}, "a flow has no grid 'leading': choose trailing or karras"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        samplers.step_table(name, FlowProcess(), "velocity", 10, options)


@pytest.mark.parametrize("name", ["euler_maruyama", "euler", "heun"])
def test_no_steps(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot sample in 0 steps: choose at least 1"):
        samplers.step_table(name, FlowProcess(), "velocity", 0)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False), ("1", True)])
def test_options_are_read_from_text(text: str, value: bool) -> None:
    assert samplers.resolve("ddim", {"clip_x0": text, "eta": "0.5"}) == {
        "grid": "auto", "eta": 0.5, "clip_x0": value, "dynamic_threshold": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", samplers.fitting(PROCESS))
def test_every_sampler_says_what_it_is(name: str) -> None:
    assert samplers.summary(name).endswith(".")
    assert samplers.resolve(name, {}) == samplers.defaults(name)
