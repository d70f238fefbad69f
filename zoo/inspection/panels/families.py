"""The families that have more to show than their records: importing this registers them."""

from . import codes, latent, noise, text, verdict  # noqa: F401
