"""Dotted overrides, such as a sweep has: the names of the command line, without their leading `config.`."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxgan.errors import ConfigError


def apply(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with other values.

        apply(config, {"optimizer.generator.learning_rate": 1e-4, "loss.penalties": {"r1": 1.0}})

    A field that holds several others is replaced as a whole by a mapping. In place of a number a mapping may stand that
    is a ramp ("from", "to", "over") or has a "weight", and the reverse.

    Raises:
        ConfigError: there is no such field (the message names the nearest ones), or it takes no such value.
    """
    changed = config.copy_and_resolve_references()
    for name, value in overrides.items():
        *path, field = name.split(".")
        holder = changed
        for part in path:
            holder = holder[part] if isinstance(holder, ConfigDict) and part in holder else None
        if not isinstance(holder, ConfigDict) or field not in holder:
            raise ConfigError(_unknown(name, config))
        _set(holder, field, value, name)
    return changed


def _set(holder: ConfigDict, field: str, value: Any, name: str) -> None:
    value = dict(value) if isinstance(value, Mapping) else value
    old = holder[field]
    try:
        if _is_number(value) and _stands_for_a_number(old):
            with holder.ignore_type():
                holder[field] = float(value)
        elif _stands_for_a_number(value) and _is_number(old):
            with holder.ignore_type():
                holder[field] = value
        else:
            holder[field] = value
    except (TypeError, ValueError):
        now = old.to_dict() if isinstance(old, ConfigDict) else old
        raise ConfigError(f"config.{name} cannot be {value!r}; it is {now!r} now, and keeps its type")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stands_for_a_number(value: Any) -> bool:
    return isinstance(value, (ConfigDict, Mapping)) and ({"from", "to"} <= set(value) or "weight" in value)


def _unknown(name: str, config: ConfigDict) -> str:
    known = list(_names(config))
    # A name as on the command line, config.seed; or right but for what it stands under, r1 for loss.penalties.r1.
    nearest = difflib.get_close_matches(name.removeprefix("config."), known, n=3)
    nearest = nearest or [other for other in known if other.endswith("." + name.rsplit(".", maxsplit=1)[-1])][:3]
    told = f"; the nearest are {', '.join(nearest)}" if nearest else ""
    return f"the configuration has no field {name!r}{told}"


def _names(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for name in config:
        yield prefix + name
        if isinstance(config[name], ConfigDict):
            yield from _names(config[name], f"{prefix}{name}.")
