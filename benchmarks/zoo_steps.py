"""The zoo's side: each function makes one case's model and returns (model or None, step); `step()` returns what both sides must agree in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import SYMBOLS, WORDS

import zoo
import zoo.autograd as ops
from zoo.autograd import Tensor, no_grad, use_precision
from zoo.autograd.runtime import use_kernels
from zoo.gan import GAN
from zoo.multimodal.words import Words
from zoo.nn import Module
from zoo.optim import Adam, AdamW
from zoo.parts.denoising.unet import UNet
from zoo.recurrent import Recurrent
from zoo.transformer import Transformer
from zoo.vae import VAE

Case = tuple[Module | None, Callable[[], Any]]


class TrainingStep:
    """A training step as a user writes it."""

    def __init__(self, optimiser: Any, loss: Callable[..., Tensor], *inputs: np.ndarray):
        self.optimiser, self.loss, self.inputs = optimiser, loss, inputs

    def __call__(self) -> Tensor:
        self.optimiser.zero_grad()
        value = self.loss(*self.inputs)
        value.backward()
        self.optimiser.step()
        return value

    def compiled(self) -> TrainingStep:
        """The same, with the loss replayed."""
        return TrainingStep(self.optimiser, zoo.compile(self.loss), *self.inputs)


def in_bf16(step: Callable[[], Any]) -> Callable[[], Any]:
    """The same step with products of bfloat16."""

    def rounded() -> Any:
        with use_precision("bf16"):
            return step()

    return rounded


def by_definition(step: Callable[[], Any]) -> Callable[[], Any]:
    """The same step without kernels."""

    def defined() -> Any:
        with use_kernels(False):
            return step()

    return defined


def gpt(data: dict[str, np.ndarray], *, layers: int, width: int, heads: int, batch: int, time: int) -> Case:
    model = Transformer.new(symbols=SYMBOLS, window=time, layers=layers, width=width, heads=heads, tied=False)
    return model, TrainingStep(AdamW(model.parameters(), 1e-3), lambda ids, targets: ops.cross_entropy(model(ids), targets),
                               data["ids"], data["targets"])


def vae(data: dict[str, np.ndarray], *, hidden: int, latent: int, batch: int) -> Case:
    model = VAE.new(hidden=(hidden,), latent=(latent,), depth=1, activation="relu", binarise=False)

    def loss(x: Any, noise: Any) -> Tensor:
        mean, log_variance = model.encode(x)
        logits = model.logits(mean + ops.exp(0.5 * log_variance) * noise)
        return ops.binary_cross_entropy_with_logits(logits, x, reduction="sum") + ops.gaussian_kl(mean, log_variance).sum()

    return model, TrainingStep(Adam(model.parameters(), 1e-3), loss, data["x"], data["noise"])


def dcgan(data: dict[str, np.ndarray], *, latent: int, channels: int, batch: int) -> Case:
    model = GAN.new(latent=latent, channels=channels, discriminator_norm="batch")
    G, D = model.generator, model.discriminator
    of_g, of_d = (Adam(m.parameters(), 2e-4, betas=(0.5, 0.999)) for m in (G, D))

    def step() -> list[Tensor]:
        fake = G(Tensor(data["z"]))
        of_d.zero_grad()
        loss_d = ops.softplus(-D(data["x"])).mean() + ops.softplus(D(fake.detach())).mean()
        loss_d.backward()
        of_d.step()
        of_g.zero_grad()
        loss_g = ops.softplus(-D(fake)).mean()
        loss_g.backward()
        of_g.step()
        return [loss_d, loss_g]

    return model, step


def unet(data: dict[str, np.ndarray], *, channels: int, batch: int) -> Case:
    model = _unet(channels)
    return model, TrainingStep(Adam(model.parameters(), 1e-3), lambda x, t, noise: ops.mse(model(x, t), noise), data["x"], data["t"], data["noise"])


def unet_evaluation(data: dict[str, np.ndarray], *, channels: int, batch: int) -> Case:
    model = _unet(channels)

    def step() -> Any:
        with no_grad():
            return model(data["x"], data["t"])

    return model, step


def _unet(channels: int) -> UNet:
    return UNet(1, channels, (1, 2), 1, 0, 0, rng=np.random.default_rng(0))


def words_unet(data: dict[str, np.ndarray], *, channels: int, blocks: int, heads: int, batch: int, **text: int) -> Case:
    return _words(data, channels=channels, blocks=blocks, heads=heads, multipliers=(1, 2), unshuffle=2, **text)


def words_mmdit(data: dict[str, np.ndarray], *, channels: int, blocks: int, heads: int, patch: int, batch: int, **text: int) -> Case:
    return _words(data, network="transformer", channels=channels, blocks=blocks, heads=heads, patch=patch, **text)


def _words(data: dict[str, np.ndarray], **fields: Any) -> Case:
    model = Words.new(vocabulary=tuple(f"word {i}" for i in range(WORDS)), positions="rotary", **fields)

    def loss(x: Any, t: Any, noise: Any) -> Tensor:
        text, mask = model.text(data["ids"])
        return ops.mse(model.network(x, t, text, mask), noise)

    return model, TrainingStep(Adam(model.parameters(), 1e-3), loss, data["x"], data["t"], data["noise"])


def lstm(data: dict[str, np.ndarray], *, width: int, batch: int, time: int) -> Case:
    model = Recurrent.new(cell="lstm", symbols=SYMBOLS, width=width)
    return model, TrainingStep(Adam(model.parameters(), 1e-3), lambda ids: ops.cross_entropy(model(ids), ids), data["ids"])


def decoding(data: dict[str, np.ndarray], *, layers: int, width: int, heads: int, batch: int, time: int) -> Case:
    model = Transformer.new(symbols=SYMBOLS, window=time, layers=layers, width=width, heads=heads, tied=False)
    ids = data["ids"][0].tolist()

    def step() -> float:
        with no_grad():
            logits, state = model.begin(np.array(ids[:1]), room=time)
            total = float(logits.max())
            for token in ids[1:]:
                logits, state = model.advance(token, state)
                total += float(logits.max())
        return total

    return model, step


def attention(data: dict[str, np.ndarray], *, heads: int, width: int, time: int) -> Case:
    q, k, v = (Tensor(data[name], requires_grad=True) for name in ("query", "key", "value"))

    def step() -> list[Any]:
        q.grad = k.grad = v.grad = None
        y = ops.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.backward(data["gradient"])
        return [y, q.grad, k.grad, v.grad]

    return None, step


def plain(result: Any) -> Any:
    """What a step returned, as arrays."""
    if isinstance(result, list):
        return [plain(a) for a in result]
    return result.data if isinstance(result, Tensor) else result
