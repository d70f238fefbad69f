"""Explanations: plain functions over `zoo.trace` and `zoo.patch` that answer what a model does with its input.

    circuits    a transformer as a sum of parts: attention maps and rollout, logit lens, direct logit attribution
    patching    which of them matter: activations of one prompt put into the run on another, along all paths or along one
    induction   repeated random tokens: how well they are predicted, and by which heads
    gradients   saliency, integrated gradients, occlusion: of a digit, of a prompt, of a discriminator
    latents     where an autoencoder places pictures, and what lies between them
    modular     grokking of a + b mod p, and its Fourier transform
    diagnosis   what went wrong in the training of a GAN

`zoo.inspection.explained` draws each; `examples/explain_*.py`, `induction.py` and `grokking.py` show them at work.
"""

from .circuits import attention_maps, attention_rollout, direct_logit_attribution, logit_lens, look
from .gradients import class_logit, discriminator_logit, integrated_gradients, occlusion, on_embeddings, saliency
from .induction import induction_scores, previous_token_scores, repeat_accuracy, repeated
from .latents import codes, latent_use, plane, sheet, traversals
from .modular import fourier_power, modular_addition
from .patching import activation_patching, logit_difference, patch_path, path_patching

__all__ = ["activation_patching", "attention_maps", "attention_rollout", "class_logit", "codes", "direct_logit_attribution",
           "discriminator_logit", "fourier_power", "induction_scores", "integrated_gradients", "latent_use", "logit_difference", "logit_lens",
           "look", "modular_addition", "occlusion", "on_embeddings", "patch_path", "path_patching", "plane", "previous_token_scores",
           "repeat_accuracy", "repeated", "saliency", "sheet", "traversals"]
