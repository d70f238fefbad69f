"""Data sets: pictures, text, music and toys, those that ship and your own."""

from .emoji import Emoji, emoji
from .images import Images, as_labels, as_pixels, batches, binarise, digits8x8, load_images, mnist, read_idx
from .scenes import Scenes, captioned_digits
from .text import evaluation_blocks, load_text, names, pad, random_windows, shakespeare, split_text, successive_windows

__all__ = ["Emoji", "Images", "Scenes", "as_labels", "as_pixels", "batches", "binarise", "captioned_digits", "digits8x8", "emoji",
           "evaluation_blocks", "load_images", "load_text", "mnist", "names", "pad", "random_windows", "read_idx", "shakespeare",
           "split_text", "successive_windows"]
