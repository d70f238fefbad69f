"""The two decorators of the functions in this folder, and how Numba compiles what only kernels call."""

import typing

import numba.extending
from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


@register_pass(mutates_CFG=True, analysis_only=False)
class _LoweringToLLVM(NativeLowering):
    """Numba's, which ends with LLVM's instructions: these become a part of each kernel that calls the function, and are optimised there.

    Numba would optimise them here too, and make machine code, for the function alone: a third of the time that compiling a kernel takes.
    """

    _name = "lowering_to_llvm"

    def run_pass(self, state):
        library = state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
        library._optimize_final_module = lambda: None
        library._finalize_final_module = lambda: setattr(library, "_finalized", True)
        state.targetctx.get_executable = _nothing_to_execute
        try:
            return super().run_pass(state)
        finally:
            del state.targetctx.get_executable


def _nothing_to_execute(library, function, environment):
    """What stands for the machine code that isn't there, and is told from that of other functions."""
    return _dynfunc.make_function(function.lookup_module(), function.qualname, "", 0, environment, (library,))


class Inner(CompilerBase):
    """Numba's compiler, for functions that nobody but kernels calls."""

    def define_pipelines(self):
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [(_LoweringToLLVM if kind is NativeLowering else kind, text) for kind, text in passes.passes]
        passes.finalize()
        return [passes]


# A function written in Python, whose floating point stays in the order in which it is written: without `reassoc`, since range reductions,
# and the shifts by a large constant, rely on the order of the operations.
# Nothing but kernels calls it, so that it needs no machine code to be called from Python.
_in_order: dict[str, typing.Any] = {"fastmath": {"contract", "arcp", "nsz"}, "error_model": "numpy", "nogil": True, "no_cpython_wrapper": True,
                                    "no_cfunc_wrapper": True, "pipeline_class": Inner}
in_order = numba.njit(**_in_order)

# A function that writes LLVM's instructions.  Numba's types count the typing context among its arguments.
intrinsic: typing.Any = numba.extending.intrinsic
