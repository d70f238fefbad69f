"""The engine: tensors that remember how they were made, and operations that know their derivatives.

Read `tensor.py` first, then `operation.py`; `operations/` holds the operations, one file for each subject,
`kernels/` what makes them fast, and `runtime/` what runs kernels.
"""

from .tensor import Tensor, enable_grad, grad, no_grad
from .operation import REGISTRY, fused, primitive
from .operations.arithmetic import *
from .operations.functions import *
from .operations.shaping import *
from .operations.indexing import *
from .operations.joining import *
from .operations.reductions import *
from .operations.activation import *
from .operations.linear import *
from .operations.products import *
from .operations.normalisation import *
from .operations.attention import *
from .operations.self_attention import *
from .operations.convolution import *
from .operations.blocks import *
from .operations.recurrence import *
from .operations.loss import *
from .operations.quantised import dequantise, quantised_embedding, quantised_linear, side_by_side
from .operations.precision import round_to_bfloat16
from .runtime import get_precision, get_threads, set_precision, set_threads, use_precision
from . import kernels as _kernels  # which attach themselves to the operations

_FUNCTIONS = """append array_split batch_statistics causal_mask column_stack detach diag diff dot dsplit dstack einsum expand_dims hsplit hstack inner
kron merge_heads moveaxis outer ravel repeat_heads rotate side_by_side split squeeze tensordot tile trace unpack vsplit vstack"""
__all__ = sorted({"REGISTRY", "Tensor", "enable_grad", "fused", "get_precision", "get_threads", "grad", "no_grad", "primitive",
                  "set_precision", "set_threads", "use_precision"}
                 | set(_FUNCTIONS.split()) | {name for name in REGISTRY if name in globals()})
