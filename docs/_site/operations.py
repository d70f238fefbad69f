"""A directive for the reference: `.. operations:: activation` lists the operations of one file, each with its signature, text and source."""

import importlib
import inspect

from plain_docstrings import converted
from sphinx.util.docutils import SphinxDirective

from zoo import autograd
from zoo.autograd.operation import Operation


class Operations(SphinxDirective):
    required_arguments = 1

    def run(self):
        module = importlib.import_module(f"zoo.autograd.operations.{self.arguments[0]}")
        lines: list[str] = []
        for name, thing in vars(module).items():
            function = thing.definition if isinstance(thing, Operation) else thing
            if not inspect.isfunction(function) or function.__module__ != module.__name__ or name not in autograd.__all__:
                continue
            lines += [f".. py:function:: zoo.autograd.{name}{inspect.signature(function)}", ""]
            text = converted(inspect.getdoc(thing if isinstance(thing, Operation) else function).splitlines())
            lines += ["   " + line if line else "" for line in text]
        return self.parse_text_to_nodes("\n".join(lines))
