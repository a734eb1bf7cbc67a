"""Dotted overrides, as they are typed on the command line without the leading "config.", applied by a program."""

import contextlib
import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxgan.errors import ConfigError


def apply_overrides(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config` in which the fields that `overrides` names have its values.

    Args:
        config: left as it is.
        overrides: values by dotted name, such as {"optimizer.generator.learning_rate": 1e-4}. A dict takes the place of
            a whole section, and of a number where the field may hold a ramp or options.

    Raises:
        ConfigError: a name that the configuration does not have, or a value of another type than the field's.
    """
    changed = config.copy_and_resolve_references()
    for name, value in overrides.items():
        *path, last = name.split(".")
        section: Any = changed
        for part in path:
            section = section[part] if isinstance(section, ConfigDict) and part in section else None
        if not isinstance(section, ConfigDict) or last not in section:
            raise ConfigError(f"the configuration has no field {name!r}{_nearest(config, name)}")
        _set(section, last, name, value)
    return changed


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with other numbers, perhaps traced ones, by dotted name; asks nothing of them."""
    changed = config.copy_and_resolve_references()
    with changed.unlocked(), changed.ignore_type():
        for name, value in values.items():
            *path, field = name.split(".")
            section = changed
            for part in path:
                section = section[part]
            section[field] = value
    return changed


def _set(section: ConfigDict, last: str, name: str, value: Any) -> None:
    old = section[last]
    is_number = isinstance(old, (int, float)) and not isinstance(old, bool)
    if isinstance(value, Mapping):
        value, fits = ConfigDict(dict(value), convert_dict=True), is_number or isinstance(old, ConfigDict)
    else:  # ConfigDict itself would take None everywhere, and a bool for a number
        fits = value is not None and isinstance(value, bool) == isinstance(old, bool)
    # Only a ramp and a number change places, which are of different types.
    is_ramp = isinstance(old, ConfigDict) and "from" in old and isinstance(value, (int, float))
    turns = is_ramp or (is_number and isinstance(value, ConfigDict))
    try:
        if not fits:
            raise TypeError
        with section.ignore_type() if turns else contextlib.nullcontext():
            section[last] = value
    except TypeError:
        kind = "section" if isinstance(old, ConfigDict) else type(old).__name__
        raise ConfigError(f"the field {name!r} is a {kind} ({_short(old)}); {_short(value)} cannot take its place")


def _nearest(config: ConfigDict, name: str) -> str:
    known = _names(config)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    # The right last part in another section is a mistake that spelling alone does not find.
    _, _, last = name.rpartition(".")
    close += [other for other in known if other.rpartition(".")[2] == last and other not in close]
    return f"; did you mean {', '.join(close[:4])}?" if close else "; --dry_run prints every field"


def _names(config: ConfigDict, prefix: str = "") -> list[str]:
    names = []
    for name, value in config.items():
        names += [prefix + name, *(_names(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else ())]
    return names


def _short(value: Any) -> str:
    text = repr(value.to_dict() if isinstance(value, ConfigDict) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
