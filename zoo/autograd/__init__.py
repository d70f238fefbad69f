"""The engine: tensors that remember how they were made, and operations that know their derivatives.

Read `tensor.py` first, then `operation.py`; every other file is a shelf of operations.
"""

from .tensor import Tensor, enable_grad, grad, no_grad
from .operation import REGISTRY, fused, primitive
from .arithmetic import *
from .shaping import *
from .activation import *
from .linear import *
from .normalisation import *
from .attention import *
from .self_attention import *
from .convolution import *
from .blocks import *
from .recurrence import *
from .loss import *
from .runtime import get_threads, set_threads
from . import activation_kernels, attention_kernels, blocks_kernels, linear_kernels, loss_kernels  # attach the kernels
from . import normalisation_kernels, recurrence_kernels, self_attention_kernels
