"""Docstrings of the zoo are plain text: code between single backticks, formulas as they are.  Here they become reStructuredText."""

import re

CODE = re.compile(r"``?([^`]+)``?")
LIST = re.compile(r"^\s*[-*] ")


def process(app, what, name, thing, options, lines: list[str]) -> None:
    """Sphinx's hook: the lines of a docstring, changed in place."""
    lines[:] = converted(lines)


def converted(lines: list[str]) -> list[str]:
    """Paragraphs stay paragraphs and lists stay lists; what is set in by more is a literal block, its columns as they are."""
    out: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("    ") or (line.startswith("  ") and literal)
        if line.strip() and indented and not literal and not (out and LIST.match(out[-1])):
            out += [] if not out or not out[-1].strip() else [""]
            out += ["::", ""]
            literal = True
        elif line.strip() and not indented and literal:
            out += [""] if out[-1].strip() else []
            literal = False
        if LIST.match(line) and out and out[-1].strip() and not LIST.match(out[-1]) and not out[-1].startswith("  ") and not literal:
            out.append("")
        if not LIST.match(line) and out and LIST.match(out[-1]) and line.strip() and not line.startswith("  "):
            out.append("")
        out.append(line if literal else escaped(line))
    return [*out, ""]


def escaped(line: str) -> str:
    """Stars, bars and underscores mean themselves; what stands between backticks is code."""
    parts = CODE.split(line)
    texts = [re.sub(r"([\\*|])|(_)(?=\W|$)", lambda m: "\\" + m.group(0), part) for part in parts[::2]]
    codes = [f"``{part}``" for part in parts[1::2]]
    joined = texts[0]
    for code, text in zip(codes, texts[1:]):
        joined += ("\\ " if joined and not joined[-1].isspace() and joined[-1] not in "([{-/:'\"" else "") + code
        joined += ("\\ " if text and text[0].isalnum() else "") + text
    return joined
