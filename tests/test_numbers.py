"""The numbers that zoo promises: constants of modules and defaults of functions, fields and settings, all in one table.

A slip of the hand in one of them changes no shape and breaks no law, so nothing else may notice it.  Whoever means to change one writes the table
anew with `python tests/test_numbers.py`, and the change stands in the commit.  Sizes that only speed depends on aren't promised.

So are the numbers by which streams of random numbers are told apart, as 0x5EED in `generator((seed, epoch, 0x5EED))`: with others a command of
an earlier version would make other samples, and a run that goes on would see other rows.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from types import FunctionType

import zoo

TABLE = Path(__file__).parent / "references" / "numbers.json"
SPEED = ("zoo.autograd.kernels", "zoo.autograd.runtime", "zoo.language.decoding", "zoo.__main__")


def is_number(value):
    if isinstance(value, (tuple, list)):
        return bool(value) and all(is_number(v) for v in value)
    if isinstance(value, dict):
        return bool(value) and all(isinstance(k, (str, int)) and is_number(v) for k, v in value.items())
    return isinstance(value, (int, float))  # bools too: a switch that is on by default


def numbers():
    """{"module:name": a number or a list of them}"""
    table = {}
    for info in pkgutil.walk_packages(zoo.__path__, "zoo."):
        if info.name.startswith(SPEED):
            continue
        module = importlib.import_module(info.name)
        source = inspect.getsource(module)
        if "generator((" in source and (streams := streams_of(source)):
            table[f"{info.name}:generator(...)"] = streams
        for name, value in vars(module).items():
            if name.isupper() and is_number(value) and f"\n{name}" in source:
                table[f"{info.name}:{name}"] = value
            definition = getattr(value, "__wrapped__", value)
            if getattr(definition, "__module__", None) == info.name and isinstance(definition, (FunctionType, type)):
                table |= defaults_of(definition, f"{info.name}:{name}")
    return json.loads(json.dumps(table, sort_keys=True))


def streams_of(source):
    calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "generator"]
    constants = sorted({(c.lineno, c.col_offset, c.value) for call in calls for c in ast.walk(call) if isinstance(c, ast.Constant) and type(c.value) is int})
    return [value for *_, value in constants]


def defaults_of(value, name):
    if isinstance(value, FunctionType):
        return {f"{name}({p.name})": p.default for p in inspect.signature(value).parameters.values() if is_number(p.default)}
    table = {}
    if dataclasses.is_dataclass(value):
        table |= {f"{name}.{f.name}": f.default for f in dataclasses.fields(value) if is_number(f.default)}
    for attribute, member in vars(value).items():
        member = getattr(member, "__func__", member)
        if isinstance(member, FunctionType) and (not attribute.startswith("__") or (attribute == "__init__" and not dataclasses.is_dataclass(value))):
            table |= defaults_of(member, f"{name}.{attribute}")
        elif attribute.isupper() and is_number(member):
            table[f"{name}.{attribute}"] = member
    return table


def test_constants_and_defaults_are_those_of_the_table():
    stored, now = json.loads(TABLE.read_text()), numbers()
    changed = {name: (stored.get(name), now.get(name)) for name in stored.keys() | now if stored.get(name) != now.get(name)}
    assert not changed, f"(in the table, now): {changed}; if they are meant, write the table anew: python tests/test_numbers.py"


if __name__ == "__main__":
    table = numbers()
    TABLE.write_text("{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[name])}" for name in sorted(table)) + "\n}\n")
    print(f"{len(table)} numbers", file=sys.stderr)
