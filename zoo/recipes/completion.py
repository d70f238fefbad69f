"""What makes a shell complete `zoo`: commands, models and options, written from the command line's own parser.

A script holds its words, so that pressing Tab runs no Python; it is printed anew by `zoo completion SHELL`.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import NamedTuple

from ..loading.cards import shipped
from . import KINDS, recipe_of


class Word(NamedTuple):
    text: str
    about: str = ""


class Command(NamedTuple):
    name: str
    about: str
    words: list[Word]  # what may follow: models and options
    of_kind: dict[str, list[Word]]  # `zoo train vae`: the fields of this kind


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """Every command of the parser, with what may follow it."""
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    about = {action.dest: action.help or "" for action in subparsers._choices_actions}
    return [_command(name, about.get(name, ""), command) for name, command in subparsers.choices.items()]


def _command(name: str, about: str, parser: argparse.ArgumentParser) -> Command:
    words: list[Word] = []
    for action in parser._actions:
        if action.option_strings:
            words += [Word(option, (action.help or "").split(" (default")[0]) for option in action.option_strings]
        else:
            words += [Word(choice) for choice in action.choices or (shipped() if action.metavar == "MODEL" or action.dest == "model" else ())]
    return Command(name, about, words, {kind: _fields(kind) for kind in KINDS} if name in ("train", "search") else {})


def _fields(kind: str) -> list[Word]:
    recipe = recipe_of(kind)
    names = dict.fromkeys(f.name for config in (recipe.model.Config, recipe.training) for f in dataclasses.fields(config))
    return [Word(f"--{name.replace('_', '-')}") for name in names]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """What bash, zsh or fish reads."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands_of(parser))


def _cases(commands: list[Command], indent: str) -> list[str]:
    """Branches of a case over "command kind", which bash and zsh write alike."""
    lines = []
    for command in commands:
        own = " ".join(word.text for word in command.words)
        lines += [f"{indent}'{command.name} {kind}') words='{own} {' '.join(w.text for w in fields)}' ;;"
                  for kind, fields in command.of_kind.items()]
        lines += [f"{indent}'{command.name} '*) words='{own}' ;;"]
    return lines


def _bash(commands: list[Command]) -> str:
    names = " ".join(command.name for command in commands)
    return "\n".join([
        "_zoo() {",
        "    local words",
        "    if (( COMP_CWORD == 1 )); then",
        f"        words='{names} --help --version'",
        "    else",
        '        case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in',
        *_cases(commands, " " * 12),
        "        esac",
        "    fi",
        '    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
        "}",
        "complete -o default -F _zoo zoo  # where no word fits, files do",
    ])


def _zsh(commands: list[Command]) -> str:
    described = "\n".join(f"        {shlex.quote(command.name + ':' + command.about)}" for command in commands)
    return "\n".join([
        "#compdef zoo",
        "_zoo() {",
        "    local words_of_command",
        "    if (( CURRENT == 2 )); then",
        "        local -a commands=(",
        described,
        "        )",
        "        _describe 'command' commands",
        "        return",
        "    fi",
        '    case "$words[2] $words[3]" in',
        *(line.replace("words='", "words_of_command='") for line in _cases(commands, " " * 8)),
        "    esac",
        "    compadd -- ${=words_of_command}",
        "    _files",
        "}",
        "compdef _zoo zoo",
    ])


def _fish(commands: list[Command]) -> str:
    lines = []
    for command in commands:
        lines.append(f"complete -c zoo -n __fish_use_subcommand -f -a {command.name} -d {_fish_quoted(command.about)}")
        condition = f"'__fish_seen_subcommand_from {command.name}'"
        for word in command.words:
            lines.append(_fish_word(condition, word))
        for kind, fields in command.of_kind.items():
            condition_of_kind = f"'__fish_seen_subcommand_from {command.name}; and __fish_seen_subcommand_from {kind}'"
            lines += [_fish_word(condition_of_kind, word) for word in fields]
    return "\n".join(lines)


def _fish_word(condition: str, word: Word) -> str:
    about = f" -d {_fish_quoted(word.about)}" if word.about else ""
    if word.text.startswith("--"):
        return f"complete -c zoo -n {condition} -l {word.text[2:]}{about}"
    if word.text.startswith("-"):
        return f"complete -c zoo -n {condition} -s {word.text[1:]}{about}"
    return f"complete -c zoo -n {condition} -a {word.text}{about}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
