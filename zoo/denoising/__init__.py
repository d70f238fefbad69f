"""Parts of `diffusion.py`: samplers, the networks that predict the noise, latents, and editing of pictures."""
