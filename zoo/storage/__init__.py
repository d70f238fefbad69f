"""Files: arrays as safetensors, a model's folder, checkpoints, and writes that leave the earlier file whole whatever happens."""

from .safetensors import (
    ASSETS,
    CARD,
    DTYPES,
    INDEX,
    SHIPPED,
    WEIGHTS,
    Arrays,
    PathLike,
    Tensors,
    WrongFile,
    atomic_write,
    atomic_writes,
    check_fit,
    check_shapes,
    is_running,
    load_checkpoint,
    load_folder,
    looks_like,
    open_regular,
    open_tensors,
    read_json,
    read_safetensors,
    read_tensors,
    remove_abandoned,
    save_checkpoint,
    save_folder,
    shapes_of,
    shorten,
    write_tensors,
)

VERSION = "0.1.0"  # of the package: what a card says, and what `zoo.__version__` is; pyproject.toml reads it without importing anything

__all__ = [
    "ASSETS", "CARD", "DTYPES", "INDEX", "SHIPPED", "VERSION", "WEIGHTS", "Arrays", "PathLike", "Tensors", "WrongFile", "atomic_write",
    "atomic_writes", "check_fit", "check_shapes", "is_running", "load_checkpoint", "load_folder", "looks_like", "open_regular",
    "open_tensors", "read_json", "read_safetensors", "read_tensors", "remove_abandoned", "save_checkpoint", "save_folder", "shapes_of",
    "shorten", "write_tensors",
]
