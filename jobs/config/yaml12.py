"""YAML with the numbers and words people write, and each key once.

PyYAML follows YAML 1.1, where ``2e-4`` is a string and ``on`` is true; YAML 1.2 reads a number and
a word. Learning rates and ``thinking: on`` are written so: the newer rules are used here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from jobs.errors import ConfigError

YAMLError = yaml.YAMLError


class _Loader(yaml.SafeLoader):
    """A safe loader of our own, so that the rules here change no other user of PyYAML."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping; a key that is there twice is a mistake, not the last one's."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    problem = f"{key.value} is there twice"
                    raise ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# Of the words with these letters 1.1 takes two, on and off, for something else than words.
_Loader.yaml_implicit_resolvers = {
    letter: list(rules)
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if letter not in "oO"
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document; only plain data, never objects.

    Raises:
        YAMLError: the text is not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except YAMLError:
        raise
    except RecursionError as error:
        raise YAMLError("nested too deeply") from error
    except Exception as error:
        # 2026-13-45, or !!int of nothing: PyYAML lets through what its constructors run into.
        raise YAMLError(f"a value does not fit its type: {error}") from error


def load_yaml(path: Path) -> Any:
    """Return the value of a YAML file.

    Raises:
        ConfigError: it cannot be read, or is not valid YAML.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {yaml_problem(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def yaml_problem(error: YAMLError) -> str:
    """Return what is wrong with a document, and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
