"""The samplers of REPA, SiT and DiT against loops written from the papers' formulas, in float64 on the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from papers import dit, repa_scales, repa_sde, sit_sde

from drun.diffusion import samplers
from drun.diffusion.guidance import Guided, with_guidance
from drun.diffusion.loop import sample
from drun.diffusion.process import Process
from drun.diffusion.process.discrete import DiscreteProcess
from drun.diffusion.process.flow import FlowProcess
from drun.diffusion.table import StepTable
from drun.errors import ConfigError

Array = np.ndarray
Network = Callable[[Array, float], Array]

SHAPE = (2, 4, 4, 4)
N = 9
PATHS = ["linear", "cosine"]


def network(x: Array, t: float) -> Array:
    """Any function of x and REPA's time will do."""
    return np.tanh(0.7 * x + t) - 0.2 * x


def flipped(x: Array, t: float) -> Array:
    """The same velocity as a SiT would say it: its time runs from noise to data."""
    return -network(x, 1 - t)


def noises(count: int) -> tuple[Array, list[Array]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(SHAPE), list(rng.standard_normal((count, *SHAPE)))


def walk(table: StepTable, x: Array, z: list[Array], denoise: Network) -> Array:
    draws: Iterator[Array] = iter(z)
    final = sample(lambda x, t, w: denoise(x, t), x.copy(), table, lambda: next(draws))
    assert next(draws, None) is None
    return final


def agree(got: Array, reference: Array) -> None:
    assert np.linalg.norm(got - reference) < 1e-10 * np.linalg.norm(reference)


@pytest.mark.parametrize("path", PATHS)
def test_repas_sde(path: str) -> None:
    table = samplers.step_table("euler_maruyama", FlowProcess(path), "velocity", N)
    assert len(table.rows) == N
    x, z = noises(N - 1)
    got = walk(table, x, list(z), network)
    agree(got, repa_sde(path, network, x, z, N))


@pytest.mark.parametrize("path", [*PATHS, "vp"])
@pytest.mark.parametrize("last_step", ["mean", "tweedie", "euler", "none"])
@pytest.mark.parametrize("form", ["constant", "sbdm", "sigma", "linear", "decreasing", "increasing_decreasing"])
def test_sits_sde(path: str, form: str, last_step: str) -> None:
    options = {"form": "sit", "diffusion_form": form, "last_step": last_step}
    process = FlowProcess(path, noise_time=0, margin=1e-5 if path == "vp" else 0.0)
    table = samplers.step_table("euler_maruyama", process, "velocity", N, options)
    assert len(table.rows) == N
    x, z = noises(table.num_noises)
    agree(walk(table, x, list(z), flipped), sit_sde(path, form, last_step, flipped, x, z, N))


def test_sbdm_starts_where_sit_starts() -> None:
    """On `vp` at the noise itself, else a margin away from it (facts 3.2)."""

    def start(path: str, margin: float) -> float:
        options = {"form": "sit", "diffusion_form": "sbdm"}
        return samplers.step_table("euler_maruyama", FlowProcess(path, 0, margin), "velocity", 4, options).rows[0].t

    assert [start(path, 0.0) for path in PATHS] == [pytest.approx(1e-3)] * 2
    assert start("linear", 0.01) == pytest.approx(0.01)
    assert start("vp", 1e-5) == 0.0


def test_form_names_the_papers_diffusion() -> None:
    process = FlowProcess("cosine")

    def rows(**options: str) -> object:
        return samplers.step_table("euler_maruyama", process, "velocity", N, options).rows

    assert rows(form="repa") == rows(diffusion_form="linear") != rows(form="sit") == rows(diffusion_form="sigma")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("heun", [False, True])
@pytest.mark.parametrize("noise_time", [0, 1])
def test_ode(path: str, heun: bool, noise_time: int) -> None:
    """REPA's: even times from 1 to 0, Heun's last step is Euler's (facts 3.1); on request in SiT's convention, too."""
    x, _ = noises(0)
    times = np.linspace(1, 0, N + 1)
    reference = x.copy()
    for t, following in pairwise(times):
        v = network(reference, t)
        predicted = reference + (following - t) * v
        if heun and following > 0:
            predicted = reference + (following - t) * 0.5 * (v + network(predicted, following))
        reference = predicted
    process = FlowProcess(path, noise_time)
    options = {"last_step": "euler"} if heun and noise_time == 0 else {}
    table = samplers.step_table("heun" if heun else "euler", process, "velocity", N, options)
    assert len(table.rows) == (2 * N - 1 if heun else N)
    agree(walk(table, x, [], network if noise_time else flipped), reference)


def sit_heun(velocity: Network, x: Array, times: Array) -> Array:
    """torchdiffeq's fixed Heun on t = linspace(t0, t1, points), as SiT calls it (facts 3.2): every step corrected."""
    for t, following in pairwise(times.tolist()):
        v = velocity(x, t)
        x = x + (following - t) / 2 * (v + velocity(x + (following - t) * v, following))
    return x


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("num_steps", [1, 2, N])
def test_sits_heun_corrects_the_last_step(path: str, num_steps: int) -> None:
    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(path, noise_time=0), "velocity", num_steps)
    assert len(table.rows) == 2 * num_steps
    agree(walk(table, x, [], flipped), sit_heun(flipped, x, np.linspace(0, 1, num_steps + 1)))


@pytest.mark.parametrize(
    ("path", "prediction", "margin", "start"),
    [("linear", "noise", 1e-3, 1e-3), ("cosine", "score", 1e-3, 1e-3), ("vp", "velocity", 1e-5, 0.0)],
)
def test_sits_heun_stays_within_sits_margins(path: str, prediction: str, margin: float, start: float) -> None:
    """t0 and t1 of SiT's transport; noise and score become the drift of the probability-flow ODE."""

    def drift(x: Array, t: float) -> Array:
        alpha, sigma, d_alpha, d_sigma = repa_scales(path, 1 - t)
        m = flipped(x, t)
        if prediction == "velocity":
            return m
        noise = m if prediction == "noise" else -sigma * m
        return -(d_alpha * (x - sigma * noise) / alpha + d_sigma * noise)

    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(path, 0, margin), prediction, N)
    assert len(table.rows) == 2 * N
    agree(walk(table, x, [], flipped), sit_heun(drift, x, np.linspace(start, 1 - margin, N + 1)))


def test_repas_heun_corrects_the_last_step_on_request() -> None:
    x, _ = noises(0)
    table = samplers.step_table("heun", FlowProcess(), "velocity", N, {"last_step": "heun"})
    agree(walk(table, x, [], network), sit_heun(network, x, np.linspace(1, 0, N + 1)))


@pytest.mark.parametrize(
    ("process", "options", "calls"),
    [
        (FlowProcess(noise_time=0), {}, 2 * N),
        (FlowProcess(noise_time=0), {"grid": "karras"}, 2 * N - 1),
        (FlowProcess(noise_time=0), {"last_step": "euler", "clip_x0": True}, 2 * N - 1),
        (FlowProcess(noise_time=1), {}, 2 * N - 1),
        (DiscreteProcess("linear"), {}, 2 * N - 1),
    ],
)
def test_only_sits_heun_corrects_the_last_step_unasked(process: Process, options: dict[str, Any], calls: int) -> None:
    assert len(samplers.step_table("heun", process, "velocity", N, options).rows) == calls


def test_both_calls_of_the_corrected_last_step_are_guided_alike() -> None:
    """torchdiffeq knows no intervals: the second call at the data itself is guided as the first."""
    table = samplers.step_table("heun", FlowProcess(noise_time=0), "velocity", 4)
    assert [row.w for row in with_guidance(table, 2.0, (0.7, 0.8)).rows] == [1.0] * 6 + [2.0] * 2


@pytest.mark.parametrize("prediction", ["noise", "x0", "score"])
def test_another_prediction_of_the_same_network_gives_the_same_image(prediction: str) -> None:
    """Away from the ends every prediction says the same."""
    process = FlowProcess("linear", margin=0.01)

    def converted(x: Array, t: float) -> Array:
        x0 = x - t * network(x, t)
        eps = (x - (1 - t) * x0) / t
        return {"noise": eps, "x0": x0, "score": -eps / t}[prediction]

    x, z = noises(N - 1)
    by_velocity, other = (samplers.step_table("euler_maruyama", process, kind, N) for kind in ("velocity", prediction))
    agree(walk(other, x, z, converted), walk(by_velocity, x, z, network))


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


# --- DiT's ancestral sampler


def two_halves(x: Array, t: float) -> Array:
    """Noise and variance of one network."""
    return np.concatenate([network(x, t / 1000), np.sin(3 * x)], axis=1)


def test_dits_ancestral_sampler_with_learned_variance() -> None:
    options = {"variance": "learned_range", "clip_x0": False}
    table = samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", 25, options, "learned_range")
    assert table.num_noises == 24
    x, z = noises(24)
    agree(walk(table, x, list(z), two_halves), dit(two_halves, x, z, 25))


def test_other_samplers_leave_the_variance_alone() -> None:
    x, _ = noises(0)
    table = samplers.step_table("ddim", DiscreteProcess("linear"), "noise", 10, {}, "learned_range")
    agree(walk(table, x, [], two_halves), walk(table, x, [], lambda x, t: network(x, t / 1000)))


def test_a_learned_variance_needs_a_network_that_predicts_it() -> None:
    with pytest.raises(ConfigError, match="predicts no variance: choose another than variance=learned_range"):
        samplers.step_table("ddpm", DiscreteProcess("linear"), "noise", 10, {"variance": "learned_range"})


# --- guidance


def count_forwards(table: StepTable) -> int:
    """Sample-forwards of one image."""
    batches = []

    def predict(x: Array, t: float, y: Array | None) -> Array:
        batches.append(len(x))
        return network(x, t)

    labels = np.zeros(1, np.int64)
    sample(Guided(predict, labels, 10), np.ones((1, 4, 2, 2)), table, lambda: np.zeros((1, 4, 2, 2)))
    return sum(batches)


def test_repas_interval_costs_422_forwards_of_500() -> None:
    table = samplers.step_table("euler_maruyama", FlowProcess(), "velocity", 250)
    assert count_forwards(with_guidance(table, 1.8)) == 500
    guided = with_guidance(table, 1.8, (0.0, 0.7))
    assert count_forwards(guided) == 422
    first = next(i for i, row in enumerate(guided.rows) if row.w != 1)
    assert (first, round(guided.rows[first].t, 5)) == (78, 0.69928)


def test_an_interval_includes_its_ends_in_spite_of_rounding() -> None:
    """0.7 lies on the grid of 250 even steps: 175 guided ones (facts 3.1)."""
    table = with_guidance(samplers.step_table("euler", FlowProcess(), "velocity", 250), 1.8, (0.0, 0.7))
    assert sum(row.w != 1 for row in table.rows) == 175


def test_both_calls_of_a_heun_step_are_guided_alike() -> None:
    """REPA decides once a step, by its first time."""
    table = samplers.step_table("heun", FlowProcess(), "velocity", 10)
    weights = [row.w for row in with_guidance(table, 2.0, (0.0, 0.55)).rows]
    assert weights == [1.0] * 10 + [2.0] * 9


def test_three_channel_guidance_leaves_the_fourth_and_the_variance() -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 3))

    def predict(x: Array, t: float, y: Array | None) -> Array:
        assert y is not None
        return np.concatenate([x, 2 * x], axis=1) + y.reshape(-1, 1, 1, 1)

    labels = np.array([3, 5])
    shift = np.array([3.0, 5.0]).reshape(2, 1, 1)
    three = Guided(predict, labels, 10, channels=3)(x, 0.5, 4.0)
    both = Guided(predict, labels, 10)(x, 0.5, 4.0)
    for got, guided in ((three, 3), (both, 4)):
        assert got.shape == (2, 8, 3, 3)
        for channel in range(8):
            base = (x if channel < 4 else 2 * x)[:, channel % 4]
            expected = base + (10 + 4 * (shift - 10) if channel < guided else shift)
            np.testing.assert_allclose(got[:, channel], expected)


# --- wrong options


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


@pytest.mark.parametrize("prediction", ["x0", "score"])
def test_a_last_step_that_the_network_cannot_correct_is_refused(prediction: str) -> None:
    process = FlowProcess("vp" if prediction == "score" else "linear", noise_time=0)
    message = f"x is the data, .* predicts {prediction} says nothing about the velocity: .*last_step=euler"
    with pytest.raises(ConfigError, match=message):
        samplers.step_table("heun", process, prediction, N)
    assert samplers.step_table("heun", process, prediction, N, {"last_step": "euler"}).rows


def test_a_chain_has_no_call_at_the_data() -> None:
    with pytest.raises(ConfigError, match=r"last_step=heun got a process of kind discrete .*, expected a flow"):
        samplers.step_table("heun", DiscreteProcess("linear"), "noise", N, {"last_step": "heun"})


@pytest.mark.parametrize("name", ["euler_maruyama", "euler", "heun"])
def test_no_steps(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot sample in 0 steps: choose at least 1"):
        samplers.step_table(name, FlowProcess(), "velocity", 0)


def test_a_chain_has_no_flow_to_integrate() -> None:
    with pytest.raises(ConfigError, match=r"this model has discrete timesteps: use ddpm"):
        samplers.step_table("euler_maruyama", DiscreteProcess("linear"), "noise", 10)
    assert "euler_maruyama" not in samplers.fitting(DiscreteProcess("linear"))
    assert set(samplers.fitting(FlowProcess())) == set(samplers.names())
