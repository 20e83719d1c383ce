"""Which layers of which blocks the keys of an adapter reach. Pure; no MLX.

A key is a layer's own name (``q_proj``), its path within a block (``self_attn.q_proj``), or a
group: ``all-linear``, ``attention`` (all that mixes tokens: gated delta and state space layers,
too) or ``mlp`` (experts and their router, too). It is looked for in the adapted blocks together,
not in each: in a hybrid model attention, and with it ``q_proj``, stands in every fourth block only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from jobs.errors import ConfigError
from jobs.suggest import did_you_mean

# The presets name layers as Llama does. Where a model has no layer of that name, these are the same
# layer under another: (key, names, the layers that must stand beside it).
OTHER_NAMES = (
    ("o_proj", ("out_proj", "dense", "wo"), {"q_proj", "v_proj"}),
    ("gate_proj", ("w1",), {"w1", "w2", "w3"}),
    ("up_proj", ("w3",), {"w1", "w2", "w3"}),
    ("down_proj", ("w2",), {"w1", "w2", "w3"}),
)
# By these an MLP is told from what mixes tokens: attention, gated delta, state space, convolution.
MLP_LAYERS = {
    *("gate_proj", "up_proj", "down_proj", "gate_up_proj"),
    *("w1", "w2", "w3", "fc1", "fc2", "c_fc"),
}

# Keys that stand for many layers.
GROUPS = ALL_LINEAR, ATTENTION, MLP = "all-linear", "attention", "mlp"

Blocks = Mapping[int, Collection[str]]


@dataclass(frozen=True)
class Reach:
    """What keys reach, by paths within a block; blocks are counted from 0.

    Attributes:
        adapted: path of a layer -> the blocks in which it is adapted, in order.
        left_out: the same of layers that mix tokens in a hybrid model and are not adapted, although
            those of other blocks (or of another kind) are.
    """

    adapted: dict[str, tuple[int, ...]]
    left_out: dict[str, tuple[int, ...]]

    @property
    def paths(self) -> list[str]:
        """The adapted paths, sorted: what ``adapter_config.json`` names."""
        return sorted(self.adapted)

    @property
    def warning(self) -> str | None:
        """What a person should know before training a hybrid; None where nothing is left out."""
        if not self.left_out:
            return None
        keys = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in self.left_out))
        return (
            f"This is a hybrid model, and lora.keys leaves out layers that mix its tokens: "
            f"{described(self.left_out)}. Add them to lora.keys to adapt them, too: {keys}."
        )


def check_num_layers(num_layers: int, blocks: int, model: str) -> None:
    """Check that a model has as many blocks as are to be adapted.

    Args:
        model: what to call it.

    Raises:
        ConfigError: it has not.
    """
    if num_layers > blocks:
        raise ConfigError(
            f"lora.num_layers is {num_layers}, but {model} has {blocks} blocks.",
            f"Set it to {blocks} at most.",
        )


def reached(blocks: Blocks, keys: Iterable[str]) -> Reach:
    """Return what ``keys`` reach in the adapted blocks.

    Args:
        blocks: number of each adapted block -> the paths of its layers that could be adapted.

    Raises:
        ConfigError: a key reaches nothing.
    """
    wanted: set[str] = set()
    known = {path for paths in blocks.values() for path in paths}
    unknown = []
    for key in keys:
        found = _named(known, key) or _group(blocks, key)
        wanted |= found
        if not found:
            unknown.append(key)
    if unknown:
        names = sorted({path.rpartition(".")[2] for path in known})
        meant = did_you_mean(unknown[0], [*GROUPS, *names])
        there = (
            f"The blocks have: {', '.join(names)}; {', '.join(GROUPS)} stand for groups of them."
        )
        raise ConfigError(
            f"lora.keys: no layer {', '.join(unknown)} in the adapted blocks.",
            f"{meant} {there}".lstrip(),
        )
    return Reach(_by_path(blocks, wanted), _left_out(blocks, wanted))


def check_dora(experts: Collection[str], quantized: Iterable[tuple[str, int]]) -> None:
    """Check that mlx-lm has DoRA layers for what is to be adapted.

    Args:
        experts: paths of the layers that hold all experts of a mixture.
        quantized: the path of each quantized layer, and the bits of a number in it.

    Raises:
        ConfigError: it has not.
    """
    if experts:
        raise ConfigError(
            "lora.kind: dora cannot adapt the experts of a mixture "
            f"({', '.join(sorted(set(experts)))}): mlx-lm has no such layer.",
            "Name other layers in lora.keys, or set lora.kind to lora.",
        )
    # It takes a layer to be 32 // bits times as wide as its packed weight.
    if broken := {path: bits for path, bits in quantized if 32 % bits}:
        raise ConfigError(
            f"lora.kind: dora cannot adapt layers of {min(broken.values())} bits "
            f"({', '.join(sorted(broken))}): mlx-lm's DoRA layer mistakes their width, and could "
            "not load the adapter.",
            "Take the model in 4 or 8 bits, or set lora.kind to lora.",
        )


def described(layers: Mapping[str, tuple[int, ...]]) -> str:
    """Return layers and their blocks in words: ``self_attn.q_proj, self_attn.v_proj (block 3)``."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for path, numbers in layers.items():
        groups.setdefault(numbers, []).append(path)
    return "; ".join(
        f"{', '.join(paths)} ({'block' if len(numbers) == 1 else 'blocks'} {_ranges(numbers)})"
        for numbers, paths in groups.items()
    )


def _named(paths: Collection[str], key: str) -> set[str]:
    """Return the paths that a key means."""
    found = {path for path in paths if path == key or path.rpartition(".")[2] == key}
    if found:
        return found
    for name, others, beside in OTHER_NAMES:
        if key == name:
            return {
                path
                for path in paths
                if path.rpartition(".")[2] in others and beside <= _beside(paths, path)
            }
    return set()


def _group(blocks: Blocks, key: str) -> set[str]:
    """Return the paths of a group of layers; none where ``key`` is no group."""
    if key not in GROUPS:
        return set()
    found = set()
    for paths in blocks.values():
        for path in paths:
            part, dot, _ = path.partition(".")
            within = frozenset(_within(paths, part))
            mlp = _is_mlp(part, within) if dot else part in MLP_LAYERS
            if key == ALL_LINEAR or (key == MLP) == mlp:
                found.add(path)
    return found


def _beside(paths: Collection[str], path: str) -> set[str]:
    """Return the names of the layers in the same module as ``path``, its own among them."""
    module = path.rpartition(".")[0]
    return {
        name for other in paths for parent, _, name in [other.rpartition(".")] if parent == module
    }


def _left_out(blocks: Blocks, wanted: set[str]) -> dict[str, tuple[int, ...]]:
    """Return the mixers' layers that are not adapted, where the layers of other mixers are."""
    # A mixer is known by where it stands and what it is made of: some families call all of theirs
    # `mixer`.
    mixers = {
        (part, frozenset(_within(paths, part))): None
        for paths in blocks.values()
        for part in dict.fromkeys(path.partition(".")[0] for path in paths)
    }
    mixing = [paths for part, paths in mixers if not _is_mlp(part, paths)]
    if all(paths & wanted for paths in mixing) or not any(paths & wanted for paths in mixing):
        return {}
    missed = set().union(*(paths for paths in mixing if not paths & wanted))
    return _by_path(blocks, missed - wanted)


def _within(paths: Collection[str], part: str) -> set[str]:
    return {path for path in paths if path.partition(".")[0] == part and "." in path}


def _is_mlp(part: str, paths: frozenset[str]) -> bool:
    names = {path.rpartition(".")[2] for path in paths}
    return not paths or bool(names & MLP_LAYERS) or "mlp" in part or "moe" in part


def _by_path(blocks: Blocks, chosen: set[str]) -> dict[str, tuple[int, ...]]:
    return {
        path: tuple(sorted(number for number, paths in blocks.items() if path in paths))
        for path in sorted(chosen)
    }


def _ranges(numbers: tuple[int, ...]) -> str:
    """Return ``20-23, 27`` for 20, 21, 22, 23 and 27."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
