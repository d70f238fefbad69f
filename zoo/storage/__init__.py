"""Files: arrays as safetensors, a model's folder, checkpoints, and writes that leave the earlier file whole whatever happens."""

from .atomic import atomic_write, atomic_writes, is_running, remove_abandoned
from .checkpoints import load_checkpoint, save_checkpoint
from .files import PathLike, WrongFile, in_one_line, is_folder, looks_like, open_regular, read_json, shorten
from .folders import ASSETS, CARD, SHIPPED, cache_folder, check_fit, check_shapes, load_folder, save_folder
from .safetensors import DTYPES, INDEX, WEIGHTS, Arrays, Tensors, open_tensors, read_safetensors, read_tensors, shapes_of, write_tensors

VERSION = "0.1.0"  # of the package: what a card says, and what `zoo.__version__` is; pyproject.toml reads it without importing anything

__all__ = [
    "ASSETS", "CARD", "DTYPES", "INDEX", "SHIPPED", "VERSION", "WEIGHTS", "Arrays", "PathLike", "Tensors", "WrongFile", "atomic_write",
    "atomic_writes", "cache_folder", "check_fit", "check_shapes", "in_one_line", "is_folder", "is_running", "load_checkpoint", "load_folder",
    "looks_like", "open_regular", "open_tensors", "read_json", "read_safetensors", "read_tensors", "remove_abandoned", "save_checkpoint",
    "save_folder", "shapes_of", "shorten", "write_tensors",
]
