"""Parts of `diffusion.py`: paths of noise, samplers, the networks that predict it, latents, and the uses of a trained model."""
