"""Which numbers of a configuration may be traced values, and which members of a population share a program.

A number that is 0 where 0 means "none" (a penalty's weight, say) is no traced value: without the term it is another
program. Of a ramp, where it starts and where it ends are traced; over how many images, and its shape, are not.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxgan.workdir import plain


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_on(value: Any) -> bool:
    return _is_number(value) and value > 0


# Dotted names, and what a value has to be. An optimizer keeps a whole number as one in its state, so floats alone.
TRACED: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    (r"seed", lambda value: isinstance(value, int) and 0 <= value < 2**31),
    (r"optimizer\.(generator|discriminator)\.\w+(\.from|\.to)?", lambda value: isinstance(value, float)),
    (r"loss\.label_smoothing", _is_on),
    (r"loss\.penalties\.\w+(\.weight)?", _is_on),
    (r"loss\.penalties\.\w+\.weight\.(from|to)", _is_number),
    (r"loss\.auxiliary\.\w+(\.weight|\.generator_weight)?", _is_on),
    (r"ema\.half_life_images(\.from|\.to)?", _is_number),
    (r"ema\.rampup", _is_on),
    (r"augment\.p", lambda value: _is_number(value) and value >= 0),
    (r"augment\.p\.(from|to)", _is_number),
    (r"augment\.(target|speed_images)", _is_number),
)


Values = dict[str, np.ndarray]


class Group(NamedTuple):
    """Members that one program trains."""

    members: tuple[int, ...]  # their places in the population
    values: Values  # by dotted name, the numbers in which they differ, [members]


def divide(configs: Sequence[ConfigDict], facts: Sequence[Any]) -> list[Group]:
    """The groups of a population: members are together that differ in traced values alone, in their first one's order.

    Args:
        configs: of the members.
        facts: what else a member's program depends on, as JSON can hold it.
    """
    together: dict[str, list[int]] = {}
    flat = [dict(_leaves(config.to_dict())) for config in configs]
    for place, (leaves, more) in enumerate(zip(flat, facts, strict=True)):
        fixed = {name: "traced" if may_be_traced(name, value) else plain(value) for name, value in leaves.items()}
        together.setdefault(json.dumps([fixed, more], sort_keys=True), []).append(place)
    return [Group(tuple(places), _differences([flat[place] for place in places])) for places in together.values()]


def may_be_traced(name: str, value: Any) -> bool:
    """Whether the number of this dotted name may differ between members of one program."""
    return any(re.fullmatch(pattern, name) and fits(value) for pattern, fits in TRACED)


def leaf_of(config: ConfigDict, name: str) -> Any:
    """The field of a dotted name; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value[part] if isinstance(value, ConfigDict) and part in value else None
    return value


def column(name: str, numbers: Sequence[float]) -> np.ndarray:
    """Numbers of members as their program takes them, [members]."""
    return np.asarray(numbers, np.int32 if name == "seed" else np.float32)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _differences(flat: Sequence[Mapping[str, Any]]) -> Values:
    columns = {name: [leaves[name] for leaves in flat] for name, value in flat[0].items() if may_be_traced(name, value)}
    return {name: column(name, numbers) for name, numbers in columns.items() if len(set(numbers)) > 1}
