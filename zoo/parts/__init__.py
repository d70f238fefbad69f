"""What families are put together from, a folder each: `adversarial` for gan.py, `denoising` for diffusion.py."""
