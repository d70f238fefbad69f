"""The engine: tensors that remember how they were made, and operations that know their derivatives.

Read `tensor.py` first, then `operation.py`; `operations/` holds the operations, one file for each subject,
`kernels/` what makes them fast, and `runtime/` what runs kernels.
"""

from .tensor import Tensor, enable_grad, grad, no_grad
from .operation import REGISTRY, fused, primitive
from .operations.arithmetic import *
from .operations.shaping import *
from .operations.activation import *
from .operations.linear import *
from .operations.normalisation import *
from .operations.attention import *
from .operations.self_attention import *
from .operations.convolution import *
from .operations.blocks import *
from .operations.recurrence import *
from .operations.loss import *
from .operations.quantised import dequantise, quantised_embedding, quantised_linear, side_by_side
from .runtime import get_threads, set_threads
from .kernels import activation as _activation, arithmetic as _arithmetic, attention as _attention  # each attaches its kernels
from .kernels import blocks as _blocks, convolution as _convolution, linear as _linear, loss as _loss, quantised as _quantised
from .kernels import normalisation as _normalisation, recurrence as _recurrence, self_attention as _self_attention
