"""The operations: each a definition that reads like the mathematics, its rule right under it. One file for each subject.

In all of these files `sum`, `max`, `min` and `abs` are the operations, and so are `any`, `all` and `round` where they are defined;
Python's own are `builtins.sum` and so on.
Kernels know these files, not the other way round: each file in `kernels/` attaches its kernels to the operations here.
"""
