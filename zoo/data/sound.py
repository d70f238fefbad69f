"""Sound as a picture and back: waveforms, their log-mel spectrograms, and Griffin and Lim's way back.

    waveform (8,064 samples, a second at 8 kHz) --frames, FFT--> |S| (257 frequencies, 64 frames) --mel filters, log--> picture (32, 64)

A picture has time from left to right and frequency from bottom to top, in mels, which are spaced as the ear hears. It has no phases, and
only 32 bands: `waveform` looks for magnitudes that these bands would have come from, and then for phases that fit each other from frame to
frame (Griffin & Lim 1984, with the momentum of Perraudin et al. 2013).
"""

from __future__ import annotations

import functools
from io import BytesIO

import numpy as np

from ..autograd.random import generator
from ..storage import PathLike, WrongFile, atomic_write

RATE = 8000  # samples per second
WINDOW, HOP = 512, 128  # samples of a frame, and from one frame to the next
FRAMES, MELS = 64, 32
SAMPLES = HOP * (FRAMES - 1)  # of a waveform: frames lie around 0, HOP, 2 HOP, ...
LOWEST, HIGHEST = 60.0, 4000.0  # hertz
QUIETEST, LOUDEST = -2.0, 2.5  # log10 of a band's magnitude: what is black and what is white
MOST_SECONDS = 600  # of a file that is read


# --- to a picture


def spectrogram(waveforms) -> np.ndarray:
    """waveforms (n, 8064) float in [-1, 1] -> (n, 32, 64) float32 in [0, 1], high frequencies first.  Raises ValueError for another shape."""
    x = np.asarray(waveforms, np.float32)
    if x.ndim != 2 or x.shape[1] != SAMPLES:
        raise ValueError(f"waveforms: shape is {x.shape}; it is (n, {SAMPLES}), {SAMPLES / RATE:.2f} seconds at {RATE} Hz")
    bands = np.log10(np.maximum(mel_filters() @ np.abs(stft(x)), 1e-12))
    return np.clip((bands[:, ::-1] - QUIETEST) / (LOUDEST - QUIETEST), 0, 1).astype(np.float32)


def stft(x: np.ndarray) -> np.ndarray:
    """x (n, samples) -> (n, 257, frames) complex64: the spectrum around each HOP-th sample, seen through Hann's window."""
    padded = np.pad(x, ((0, 0), (WINDOW // 2, WINDOW // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::HOP]
    return np.fft.rfft(frames * _window(), axis=-1).astype(np.complex64).swapaxes(1, 2)


def inverse_stft(spectrum: np.ndarray) -> np.ndarray:
    """(n, 257, frames) -> (n, HOP (frames - 1)): the waveform whose spectrum is nearest (Griffin & Lim 1984, eq. 6)."""
    frames = np.fft.irfft(spectrum.swapaxes(1, 2), WINDOW, axis=-1).astype(np.float32) * _window()
    n, count, _ = frames.shape
    padded, weight = np.zeros((n, HOP * (count - 1) + WINDOW), np.float32), np.zeros(HOP * (count - 1) + WINDOW, np.float32)
    for i in range(count):
        padded[:, i * HOP : i * HOP + WINDOW] += frames[:, i]
        weight[i * HOP : i * HOP + WINDOW] += _window() ** 2
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return padded[:, inner] / weight[inner]


@functools.lru_cache(1)
def _window() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def mels(hertz):
    """2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


@functools.lru_cache(1)
def mel_filters() -> np.ndarray:
    """(32, 257): triangles that rise from one centre to the next and fall to the one after it; centres are equally spaced in mels."""
    centres = 700 * (10 ** (np.linspace(mels(LOWEST), mels(HIGHEST), MELS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, middle, high = centres[:-2, None], centres[1:-1, None], centres[2:, None]
    return np.maximum(0, np.minimum((f - low) / (middle - low), (high - f) / (high - middle))).astype(np.float32)


# --- and back


def waveform(pictures, *, iterations: int = 60, seed: int = 0) -> np.ndarray:
    """pictures (n, 32, 64) in [0, 1], as `spectrogram` makes them -> (n, 8064) float32 in [-1, 1], the loudest sample at 0.9.

    iterations: of Griffin and Lim.  seed: of the phases that they begin with.  Raises ValueError for another shape, or iterations below 1.
    """
    pictures = np.asarray(pictures, np.float32)
    if pictures.ndim != 3 or pictures.shape[1:] != (MELS, FRAMES):
        raise ValueError(f"pictures: shape is {pictures.shape}; it is (n, {MELS}, {FRAMES})")
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; it is at least 1")
    bands = np.where(pictures > 0, 10 ** (QUIETEST + (LOUDEST - QUIETEST) * pictures), 0)[:, ::-1]
    magnitude = magnitudes(bands)
    rng = generator(seed)
    angles = np.exp(2j * np.pi * rng.random(magnitude.shape)).astype(np.complex64)
    before = np.zeros_like(angles)
    for _ in range(iterations):
        now = stft(inverse_stft(magnitude * angles))
        angles = now + np.float32(0.99) * (now - before)
        angles /= np.maximum(np.abs(angles), 1e-9)
        before = now
    x = inverse_stft(magnitude * angles)
    return x * (0.9 / np.maximum(np.abs(x).max(1, keepdims=True), 1e-5))


def magnitudes(bands: np.ndarray, iterations: int = 60) -> np.ndarray:
    """bands (n, 32, frames) -> magnitudes (n, 257, frames), at least 0, whose mel bands these are (multiplied: Lee & Seung 2001, eq. 4)."""
    filters = mel_filters()
    h = target = filters.T @ bands
    for _ in range(iterations):
        h = h * target / np.maximum(filters.T @ (filters @ h), 1e-8)
    return h.astype(np.float32)


# --- files


def write_wav(path: PathLike, x: np.ndarray, rate: int = RATE, comment: str = "") -> None:
    """A waveform (samples,) in [-1, 1] as a 16-bit WAV file of one channel.  Written atomically; ValueError for another shape or NaN."""
    from scipy.io import wavfile

    x = np.asarray(x)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"x: shape is {x.shape}; it is (samples,), finite numbers from -1 to 1")
    content = BytesIO()
    wavfile.write(content, rate, np.rint(np.clip(x, -1, 1) * 32767).astype(np.int16))
    atomic_write(path, content.getvalue())


def read_wav(path: PathLike) -> np.ndarray:
    """A WAV file of PCM as (samples,) float32 in [-1, 1] at 8 kHz; several channels are averaged.

    Raises WrongFile for anything else, and for more than ten minutes.
    """
    import wave

    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
            if not (1 <= channels <= 8 and 1 <= rate <= 400_000 and width in (1, 2, 4)):
                raise WrongFile(f"{path}: has {channels} channels of {8 * width} bits at {rate} Hz; up to 8 channels of 8, 16 or 32 bits are read")
            if count > MOST_SECONDS * rate:
                raise WrongFile(f"{path}: lasts {count / rate:.0f} seconds; at most {MOST_SECONDS} are read")
            content = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise WrongFile(f"{path}: is no WAV file of PCM ({error})") from error
    content = content[: len(content) // (width * channels) * width * channels]
    if not content:
        raise WrongFile(f"{path}: holds no samples")
    kind = np.dtype({1: "u1", 2: "<i2", 4: "<i4"}[width])
    x = np.frombuffer(content, kind).astype(np.float32)
    x -= 128 * (width == 1)  # bytes are unsigned
    return resampled((x / np.float32(2 ** (8 * width - 1))).reshape(-1, channels).mean(1), rate)


def resampled(x: np.ndarray, rate: int) -> np.ndarray:
    """x (samples,) at `rate` Hz -> the same at 8 kHz."""
    from math import gcd

    from scipy.signal import resample_poly

    if rate == RATE:
        return np.asarray(x, np.float32)
    g = gcd(rate, RATE)
    return resample_poly(x, RATE // g, rate // g).astype(np.float32)


def as_clip(x: np.ndarray, begin: float | None = None) -> np.ndarray:
    """A word (samples,) at 8 kHz as (8064,): silence at the ends cut off, its loudest sample at 0.9, put in the middle.

    begin: where in the room that is left it starts, from 0 to 1.  What is longer than a second is played faster.
    """
    x = np.asarray(x, np.float32)
    loud = np.flatnonzero(np.abs(x) > 0.02 * max(float(np.abs(x).max(initial=0)), 1e-5))
    clip = np.zeros(SAMPLES, np.float32)
    if not len(loud):
        return clip
    x = x[loud[0] : loud[-1] + 1]
    if len(x) > SAMPLES:
        x = np.interp(np.linspace(0, len(x) - 1, SAMPLES), np.arange(len(x)), x).astype(np.float32)
    start = int((0.5 if begin is None else begin) * (SAMPLES - len(x)))
    clip[start : start + len(x)] = x * (0.9 / np.abs(x).max())
    return clip
