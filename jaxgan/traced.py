"""Numbers of a configuration that may be known only while the program runs: traced values.

A population (`jaxgan.population`) makes the same game and update as a single run, from a configuration in which some
numbers are traced. What looks at such a number while the program is made asks here first: a range was checked when the
member's own configuration was, and a number that switches something off by being 0 is never traced.
"""

from collections.abc import Callable
from typing import Any

import jax


def is_traced(value: Any) -> bool:
    """Whether the value cannot be looked at now."""
    return isinstance(value, jax.core.Tracer)


def number(value: Any) -> Any:
    """A plain float; a traced value as it is."""
    return value if is_traced(value) else float(value)


def is_off(value: Any) -> bool:
    """Whether this is a 0 that means "none"."""
    return not is_traced(value) and not value


def passes(value: Any, test: Callable[[Any], bool]) -> bool:
    """Whether a value is as `test` wants it; a traced one is."""
    return is_traced(value) or test(value)
