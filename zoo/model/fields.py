"""The fields of every configuration as types of keywords: an editor completes them in `VAE.new(...)`, and mypy refuses one that there isn't.

Written by `python tests/typed_fields.py` from the configurations themselves, where each field has its default, range and comment.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict


class VAEFields(TypedDict, total=False):
    image: int | Sequence[int]
    hidden: int | Sequence[int]
    latent: int | Sequence[int]
    depth: int
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"]
    network: Literal["dense", "convolutional"]
    pixels: Literal["bernoulli", "gaussian"]
    binarise: bool
    samples: int
    beta: float
    classes: int


class VQVAEFields(TypedDict, total=False):
    image: int | Sequence[int]
    channels: int
    codes: int
    width: int
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"]
    commitment: float
    decay: float
    binarise: bool
    classes: int
    prior_layers: int
    prior_heads: int
    prior_width: int


class AutoencoderFields(TypedDict, total=False):
    image: int | Sequence[int]
    latent: int
    hidden: int | Sequence[int]
    activation: Literal["tanh", "relu", "gelu", "silu", "leaky_relu"]
    network: Literal["dense", "convolutional"]


class GANFields(TypedDict, total=False):
    image: int | Sequence[int]
    network: Literal["dense", "convolutional"]
    latent: int
    channels: int
    hidden: int | Sequence[int]
    discriminator_hidden: int | Sequence[int]
    generator_norm: Literal["batch", "none"]
    discriminator_norm: Literal["batch", "layer", "spectral", "none"]
    classes: int
    clusters: int
    conditioning: Literal["projection", "concatenation"]
    frequencies: float | Sequence[float]
    packing: int
    truncation: float | None


class DiffusionFields(TypedDict, total=False):
    image: int | Sequence[int]
    network: Literal["unet", "transformer", "dense"]
    channels: int
    multipliers: int | Sequence[int]
    blocks: int
    norms: bool
    heads: int
    patch: int
    classes: int
    schedule: Literal["linear", "cosine", "straight"]
    prediction: Literal["noise", "x_0", "v"]
    T: int
    beta_1: float
    beta_T: float
    autoencoder: str | None
    source: Literal["normal", "eight_gaussians"]
    times: Literal["uniform", "logit-normal"]
    unlabelled: float
    dequantise: bool
    sampler: str
    evaluations: int
    guidance: float


class TransformerFields(TypedDict, total=False):
    symbols: int
    start: str
    lines: bool
    stride: int
    window: int
    layers: int
    heads: int
    width: int
    key_value_heads: int
    head_width: int
    hidden: int
    positions: Literal["learned", "rotary"]
    theta: float
    rope_divisors: float | Sequence[float]
    rope_attention: float
    sliding_window: int
    sliding_layers: int | Sequence[int]
    norm: Literal["layer", "rms", "none"]
    eps: float
    mlp: Literal["gelu", "swiglu", "relu", "silu", "none"]
    bias: bool
    query_key_value_bias: bool
    query_key_norm: bool
    tied: bool
    dropout: float


class RecurrentFields(TypedDict, total=False):
    symbols: int
    start: str
    lines: bool
    stride: int
    inputs: Literal["symbols", "keys"]
    cell: Literal["elman", "gru", "lstm"]
    layers: int
    width: int
    embedding: int
    dropout: float


class ClassifierFields(TypedDict, total=False):
    image: int | Sequence[int]
    classes: int
    channels: int
    features: int
    dropout: float
    shift: int


class WordsFields(DiffusionFields, total=False):
    unshuffle: int
    vocabulary: str | Sequence[str]
    length: int
    text_width: int
    text_blocks: int
    text_heads: int
    positions: Literal["learned", "rotary"]


class SceneJudgeFields(TypedDict, total=False):
    image: int | Sequence[int]
    channels: int
    features: int
    dropout: float


class CaptionsFields(TypedDict, total=False):
    image: int | Sequence[int]
    channels: int
    width: int
    blocks: int
    heads: int
    vocabulary: str | Sequence[str]
    length: int


class ContrastiveFields(TypedDict, total=False):
    image: int | Sequence[int]
    channels: int
    width: int
    vocabulary: str | Sequence[str]
    length: int
    text_width: int
    text_blocks: int
    text_heads: int
    positions: Literal["learned", "rotary"]


class SpeechFields(WordsFields, total=False):
    pass


class SpeechJudgeFields(TypedDict, total=False):
    image: int | Sequence[int]
    words: str | Sequence[str]
    channels: int
    features: int
    dropout: float


class GlyphsFields(WordsFields, total=False):
    pass


class GlyphJudgeFields(TypedDict, total=False):
    image: int | Sequence[int]
    bases: str | Sequence[str]
    marks: str | Sequence[str]
    channels: int
    features: int
    dropout: float


class DalleFields(TypedDict, total=False):
    autoencoder: str
    vocabulary: str | Sequence[str]
    length: int
    text_blocks: int
    width: int
    blocks: int
    heads: int
    unlabelled: float
    guidance: float
    temperature: float
