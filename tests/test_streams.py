"""Laws of streams of steps, over every family: gradients are the caller's whenever a record is in the caller's hands."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator

import numpy as np
import pytest

from zoo.autoencoder import Autoencoder
from zoo.autograd import Tensor, no_grad
from zoo.autograd.runtime import use_kernels
from zoo.autograd.tensor import state
from zoo.diffusion import Diffusion
from zoo.gan import GAN
from zoo.model import Config, Model, Step, replayable, stream
from zoo.nn import Linear
from zoo.optim import Adam
from zoo.parts.denoising.samplers import SAMPLERS
from zoo.recurrent import Recurrent
from zoo.training import Trainer
from zoo.transformer import Transformer
from zoo.vae import VAE
from zoo.vqvae import VQVAE

IMAGE = {"image": (8, 8)}
POINTS = {"image": (2,), "network": "dense", "channels": 8, "blocks": 1}


@dataclasses.dataclass
class Number(Step):
    value: np.ndarray


class Careless(Model):
    """Somebody's own family, whose stream waits inside `no_grad`."""

    kind, Config = "careless", Config

    def __init__(self, config, *, rng):
        super().__init__(config, rng=rng)
        self.layer = Linear(2, 2, rng=rng)

    @stream(Number)
    def steps(self, n: int = 3, *, seed: int = 0) -> Iterator[Number]:
        with no_grad():
            for i in range(n):
                yield self._step(np.full((1, 2), i + seed, np.float32))

    @replayable
    def _step(self, x):
        return Number(np.asarray(self.layer(x)))


def inpainting(sampler):
    model = Diffusion.new(channels=8, multipliers=(1,), **IMAGE)
    mask = np.arange(64).reshape(8, 8) < 32
    return lambda seed=0, **k: model.inpaint_steps(np.full((1, 8, 8), 0.5, np.float32), mask, sampler=sampler, evaluations=3, repeats=2, seed=seed, **k)


FAMILIES = {
    "vae": lambda: VAE.new(hidden=(6,), latent=(3,), **IMAGE).steps,
    "two layers": lambda: VAE.new(hidden=(6, 5), latent=(3, 2), **IMAGE).steps,
    "autoencoder": lambda: Autoencoder.new(hidden=(6,), latent=3, **IMAGE).steps,
    "vqvae": lambda: VQVAE.new(channels=4, codes=5, width=3, prior_layers=1, prior_heads=1, prior_width=4, **IMAGE).steps,
    "gan": lambda: GAN.new(channels=4, latent=5, **IMAGE).eval().steps,
    "transformer": lambda: lambda seed=0, **k: Transformer.new(symbols=7, window=8, layers=1, heads=1, width=8).eval().steps([1, 2], 4, seed=seed, **k),
    "recurrent": lambda: lambda seed=0, **k: Recurrent.new(symbols=7, width=6, layers=1, embedding=4).eval().steps([1, 2], 4, seed=seed, **k),
    "rolls": lambda: lambda seed=0, **k: Recurrent.new(symbols=88, inputs="keys", cell="gru", width=4).eval().roll_steps(4, seed=seed, **k),
    "careless": lambda: Careless.new().steps,
    **{sampler: lambda sampler=sampler: lambda seed=0, **k: Diffusion.new(**POINTS).steps(2, sampler=sampler, evaluations=5, tolerance=10, seed=seed, **k)
       for sampler in (*SAMPLERS, "dopri5")},
    "inpainting": lambda: inpainting("ddim"),
    "inpainting by dpm-solver++": lambda: inpainting("dpm-solver++"),
}


@pytest.fixture(params=FAMILIES)
def steps(request):
    with use_kernels(False):
        yield FAMILIES[request.param]()
    assert state.grad_enabled


def works():
    """Gradients are on: the switch says so, and they arrive."""
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    return state.grad_enabled and np.array_equal(x.grad, [2, 4])


def test_gradients_work_while_a_stream_is_held(steps):
    held = steps()
    assert works()
    next(held)
    assert works()
    for _ in held:
        assert works()
    assert works()


def test_streams_read_side_by_side_leave_gradients_on(steps):
    for _ in zip(steps(), steps(seed=1)):
        assert works()
    assert works()
    a, b = steps(), steps(seed=1)  # begun and ended in another order
    next(a), next(b), next(a)
    a.close()
    assert works()
    next(b)
    assert works()
    b.close()
    assert works()


def test_a_callers_no_grad_stays_his(steps):
    held = steps()
    with no_grad():
        next(held)
        assert not state.grad_enabled
    assert works()
    next(held)
    assert works()
    with no_grad():
        for _ in held:
            assert not state.grad_enabled
    assert works()
    with no_grad():
        held = steps()
    next(held)
    assert works()


@pytest.mark.parametrize("every,keep", [(2, None), (1, "fields"), (3, "fields")])
def test_thinned_streams_too(steps, every, keep):
    record = next(steps())
    fields = None if keep is None else [f.name for f in dataclasses.fields(record)][:1]
    for _ in steps(every=every, keep=fields):
        assert works()
    held = steps(every=every, keep=fields)
    next(held)
    assert works()
    held.close()
    assert works()


def test_a_stream_that_is_dropped_or_ended_by_an_error_leaves_gradients_on(steps):
    held = steps()
    next(held)
    del held
    gc.collect()
    assert works()
    held = steps()
    next(held)
    with pytest.raises(KeyError):
        held.throw(KeyError("somebody stopped it"))
    assert works()
    with pytest.raises(ZeroDivisionError):
        for _ in steps():
            raise ZeroDivisionError
    gc.collect()
    assert works()
    with pytest.raises((ValueError, TypeError)):
        list(steps(seed="seven"))
    assert works()


def test_nothing_is_recorded_while_a_step_is_computed(steps):
    for step in steps():
        assert all(not isinstance(getattr(step, f.name), Tensor) for f in dataclasses.fields(step))
        assert step.equals(step.replay())
        assert works()


def test_a_run_of_training_goes_on_beside_a_stream_that_is_held():
    with use_kernels(False):
        model = VAE.new(hidden=(6,), latent=(3,), **IMAGE)
        batch = np.full((4, 8, 8), 0.5, np.float32)
        held = []
        for record in Trainer(model, model.loss, lambda step, rng: batch, Adam(model.parameters(), 1e-3), steps=4):
            held.append(model.steps(1, seed=record.step))
            next(held[-1])
        assert record.step == 4 and state.grad_enabled


def test_a_stream_of_a_plain_iterator_is_a_stream_too():
    made = stream(Number)(lambda: iter([Number(np.zeros(1)), Number(np.ones(1))]))
    assert [float(step.value[0]) for step in made()] == [0, 1] and works()
