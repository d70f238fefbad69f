"""PyTorch's side: the same networks, with the zoo's names, so that weights are handed over by name.

`build(kind, data, weights, variant, sizes)` returns `step()`.  A variant is "eager" or words out of "fused" (the optimiser in one kernel),
"channels-last" (memory in the order that its convolutions like better), "compiled" (torch.compile), "bf16" (autocast: products and convolutions
in bfloat16) and "float64", to which both sides' rounding is compared.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import SYMBOLS
from torch import Tensor, nn

Step = Callable[[], Any]


def build(kind: str, data: dict[str, np.ndarray], weights: dict[str, np.ndarray], variant: str, sizes: dict[str, Any]) -> Step:
    arrays = {name: torch.from_numpy(a) for name, a in data.items()}
    if kind not in ("gpt", "lstm", "decoding", "attention", "vae"):  # pictures: PyTorch has the channels second
        arrays = {name: a.permute(0, 3, 1, 2).contiguous() if a.ndim == 4 else a for name, a in arrays.items()}
    if "float64" in variant.split("+"):
        arrays = {name: a.double() if a.is_floating_point() else a for name, a in arrays.items()}
    functions = vars(importlib.import_module("torch_words")) if kind.startswith("words") else globals()
    return functions[kind](arrays, weights, variant.split("+"), **sizes)


# --- weights


def load(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Copy the zoo's weights in by name: each kind of layer has its own order of axes.  Raises KeyError for one that is missing or left."""
    left = dict(weights)
    for path, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias_hh_l0":  # does what the other bias of an LSTM does
                parameter.requires_grad_(False).zero_()
                continue
            names = OF_LSTM if isinstance(layer, nn.LSTM) else OF_NORM if isinstance(layer, NORMS) else {}
            value = turned(layer, left.pop(f"{path}.{names.get(name, name)}"))
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    left = {name: a for name, a in left.items() if "running" not in name}
    if left:
        raise KeyError(f"weights that no layer takes: {', '.join(left)}")


OF_LSTM = {"weight_ih_l0": "input.weight", "weight_hh_l0": "weight", "bias_ih_l0": "input.bias"}
OF_NORM = {"weight": "gain"}
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def turned(layer: nn.Module, w: np.ndarray) -> np.ndarray:
    """A weight in PyTorch's order.  The zoo writes a convolution of one pixel, or of the whole image, as a dense layer."""
    if w.ndim == 1 or isinstance(layer, nn.Embedding):
        return w
    if isinstance(layer, (nn.Linear, nn.LSTM)):
        return w.T
    if isinstance(layer, nn.Conv2d):  # from (kernel height, kernel width, in, out)
        return w.reshape(*layer.kernel_size, layer.in_channels, layer.out_channels).transpose(3, 2, 0, 1)
    assert isinstance(layer, nn.ConvTranspose2d), layer
    if w.ndim == 2:
        return w.reshape(layer.in_channels, *layer.kernel_size, layer.out_channels).transpose(0, 3, 1, 2)
    return w.transpose(2, 3, 0, 1)


# --- what all training steps share


def adam(parameters: Any, variant: list[str], kind: Any = torch.optim.Adam, **settings: Any) -> torch.optim.Optimizer:
    return kind(parameters, fused="fused" in variant, **settings)


def prepared(model: nn.Module, weights: dict[str, np.ndarray], variant: list[str]) -> Any:
    load(model, weights)
    if "channels-last" in variant:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "float64" in variant:
        model = model.double()
    return torch.compile(model) if "compiled" in variant else model


def placed(x: Tensor, variant: list[str]) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if "channels-last" in variant else x


def autocast(variant: list[str]) -> torch.autocast:
    """Around the forward pass and the loss: what is done in bfloat16, and what isn't, as PyTorch has it."""
    return torch.autocast("cpu", torch.bfloat16, enabled="bf16" in variant)


def training(optimiser: torch.optim.Optimizer, variant: list[str], loss: Callable[[], Tensor]) -> Step:
    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with autocast(variant):
            value = loss()
        value.backward()
        optimiser.step()
        return value.detach()

    return step


# --- GPT


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None, start: int = 0) -> Tensor:
        b, t, w = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.query_key_value(x).split(w, dim=2))
        if cache is not None:
            keys, values = cache
            keys[:, :, start : start + t], values[:, :, start : start + t] = k, v
            k, v = keys[:, :, : start + t], values[:, :, : start + t]
        return self.output(F.scaled_dot_product_attention(q, k, v, is_causal=cache is None).transpose(1, 2).reshape(b, t, w))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None = None, start: int = 0) -> Tensor:
        x = x + self.attention(self.norm1(x), cache, start)
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, time: int):
        super().__init__()
        self.embedding, self.position = nn.Embedding(SYMBOLS, width), nn.Embedding(time, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, SYMBOLS, bias=False)

    def forward(self, ids: Tensor, caches: list[tuple[Tensor, Tensor]] | None = None, start: int = 0) -> Tensor:
        x = self.embedding(ids) + self.position.weight[start : start + ids.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], start)
        return self.output(self.norm(x))


def gpt(data: dict[str, Tensor], weights: dict, variant: list[str], *, layers: int, width: int, heads: int, batch: int, time: int) -> Step:
    model = prepared(GPT(layers, width, heads, time), weights, variant)
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]  # gains and biases don't decay
    optimiser = adam(groups, variant, torch.optim.AdamW, lr=1e-3, weight_decay=0.01)
    ids, targets = data["ids"], data["targets"].reshape(-1)
    return training(optimiser, variant, lambda: F.cross_entropy(model(ids).flatten(0, 1), targets))


def decoding(data: dict[str, Tensor], weights: dict, variant: list[str], *, layers: int, width: int, heads: int, batch: int, time: int) -> Step:
    model = prepared(GPT(layers, width, heads, time), weights, variant).eval()
    ids = data["ids"]

    def step() -> float:
        with torch.inference_mode():
            shape = (1, heads, time, width // heads)
            caches = [(torch.empty(shape), torch.empty(shape)) for _ in range(layers)]
            return sum(float(model(ids[:, i : i + 1], caches, i)[0, -1].max()) for i in range(time))

    return step


def attention(data: dict[str, Tensor], weights: dict, variant: list[str], *, heads: int, width: int, time: int) -> Step:
    q, k, v = (data[name].requires_grad_() for name in ("query", "key", "value"))

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    run = torch.compile(attend) if "compiled" in variant else attend

    def step() -> list[Tensor]:
        q.grad = k.grad = v.grad = None
        y = run(q, k, v)
        y.backward(data["gradient"])
        return [y.detach(), q.grad, k.grad, v.grad]

    return step


# --- VAE


class Gaussian(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int):
        super().__init__()
        self.layers, self.output = nn.ModuleList([nn.Linear(inputs, width)]), nn.Linear(width, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(F.relu(self.layers[0](x)))


class VAE(nn.Module):
    def __init__(self, hidden: int, latent: int):
        super().__init__()
        self.encoders = nn.ModuleList([Gaussian(784, hidden, latent)])
        self.layers, self.output = nn.ModuleList([nn.Linear(latent, hidden)]), nn.Linear(hidden, 784)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoders[0](x).chunk(2, dim=1)
        return self.output(F.relu(self.layers[0](mean + torch.exp(0.5 * log_variance) * noise))), mean, log_variance


def vae(data: dict[str, Tensor], weights: dict, variant: list[str], *, hidden: int, latent: int, batch: int) -> Step:
    model = prepared(VAE(hidden, latent), weights, variant)
    x, noise = data["x"], data["noise"]

    def loss() -> Tensor:
        logits, m, v = model(x, noise)
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") - 0.5 * torch.sum(1 + v - m * m - v.exp())

    return training(adam(model.parameters(), variant, lr=1e-3), variant, loss)


# --- DCGAN


class Generator(nn.Module):
    def __init__(self, latent: int, c: int):
        super().__init__()
        self.project = nn.ConvTranspose2d(latent, 4 * c, 7, bias=False)
        self.upsample = nn.ModuleList([nn.ConvTranspose2d(4 * c, 2 * c, 4, 2, 1, bias=False)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(4 * c), nn.BatchNorm2d(2 * c)])
        self.output = nn.ConvTranspose2d(2 * c, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.norms[0](self.project(z)))
        return torch.tanh(self.output(F.relu(self.norms[1](self.upsample[0](h)))))


class Discriminator(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(1, 2 * c, 4, 2, 1), nn.Conv2d(2 * c, 4 * c, 4, 2, 1, bias=False)])
        self.norms = nn.ModuleList([nn.Identity(), nn.BatchNorm2d(4 * c)])
        self.output = nn.Conv2d(4 * c, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms):
            x = F.leaky_relu(norm(layer(x)), 0.2)
        return self.output(x)


def dcgan(data: dict[str, Tensor], weights: dict, variant: list[str], *, latent: int, channels: int, batch: int) -> Step:
    parts = []
    for name, model in (("generator.", Generator(latent, channels)), ("discriminator.", Discriminator(channels))):
        parts.append(prepared(model, {k.removeprefix(name): v for k, v in weights.items() if k.startswith(name)}, variant))
    G, D = parts
    of_g, of_d = (adam(m.parameters(), variant, lr=2e-4, betas=(0.5, 0.999)) for m in (G, D))
    x, z = placed(data["x"], variant), data["z"].reshape(batch, latent, 1, 1)

    def step() -> list[Tensor]:
        of_d.zero_grad(set_to_none=True)
        with autocast(variant):
            fake = G(z)
            loss_d = F.softplus(-D(x)).mean() + F.softplus(D(fake.detach())).mean()
        loss_d.backward()
        of_d.step()
        of_g.zero_grad(set_to_none=True)
        with autocast(variant):
            loss_g = F.softplus(-D(fake)).mean()
        loss_g.backward()
        of_g.step()
        return [loss_d.detach(), loss_g.detach()]

    return step


# --- U-Net


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(width, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(e)[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int, blocks: int = 1):
        super().__init__()
        self.blocks = nn.ModuleList(Residual(outputs if i else inputs, outputs, width) for i in range(blocks))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, e)
        return x


class Condition(nn.Module):
    def __init__(self, channels: int, width: int):
        super().__init__()
        self.half = channels // 2
        self.inner, self.outer = nn.Linear(channels, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(self.half, dtype=t.dtype) / self.half)
        return self.outer(F.silu(self.inner(torch.cat([angle.sin(), angle.cos()], 1))))


class UNet(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        width = 4 * c
        self.condition, self.conv_in = Condition(c, width), nn.Conv2d(1, c, 3, padding=1)
        self.down = nn.ModuleList([Level(c, c, width), Level(c, 2 * c, width)])
        self.downsample = nn.ModuleList([nn.Conv2d(c, c, 3, 2, 1), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)])
        self.middle1, self.middle2 = Residual(2 * c, 2 * c, width), Residual(2 * c, 2 * c, width)
        self.up = nn.ModuleList([Level(4 * c, 2 * c, width), Level(3 * c, c, width)])
        self.norm, self.conv_out = nn.GroupNorm(8, c), nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e = self.condition(t)
        h, skips = self.conv_in(x), []
        for level, downsample in zip(self.down, self.downsample):
            skips.append(level(h, e))
            h = downsample(skips[-1])
        h = self.middle2(self.middle1(h, e), e)
        for level in self.up:
            h = level(torch.cat([F.interpolate(h, scale_factor=2.0), skips.pop()], 1), e)
        return self.conv_out(F.silu(self.norm(h)))


def unet(data: dict[str, Tensor], weights: dict, variant: list[str], *, channels: int, batch: int) -> Step:
    model = prepared(UNet(channels), weights, variant)
    x, noise = placed(data["x"], variant), placed(data["noise"], variant)
    return training(adam(model.parameters(), variant, lr=1e-3), variant, lambda: F.mse_loss(model(x, data["t"]), noise))


def unet_evaluation(data: dict[str, Tensor], weights: dict, variant: list[str], *, channels: int, batch: int) -> Step:
    model = prepared(UNet(channels), weights, variant).eval()
    x = placed(data["x"], variant)

    def step() -> Tensor:
        with torch.inference_mode():
            return model(x, data["t"])

    return step


# --- LSTM


class Text(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.embedding, self.output = nn.Embedding(SYMBOLS, width), nn.Linear(width, SYMBOLS)
        self.layers = nn.ModuleList([nn.LSTM(width, width, batch_first=True)])

    def forward(self, ids: Tensor) -> Tensor:
        return self.output(self.layers[0](self.embedding(ids))[0])


def lstm(data: dict[str, Tensor], weights: dict, variant: list[str], *, width: int, batch: int, time: int) -> Step:
    model = prepared(Text(width), weights, variant)
    ids = data["ids"]
    trained = [p for p in model.parameters() if p.requires_grad]
    return training(adam(trained, variant, lr=1e-3), variant, lambda: F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()))
