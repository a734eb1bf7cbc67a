"""Who may import whom: a file imports lower levels only, and the losses import nothing but JAX."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "jaxgan"

# From design to loop. A file may import files of lower levels, and of its own level within its own room.
LEVELS = {
    "errors": 0,
    "files": 0,
    "processor": 0,
    "augment": 0,
    "losses": 0,
    "metrics": 0,
    "features": 2,
    "counting": 1,
    "data": 1,
    "models": 1,
    "shares": 1,
    "state": 1,
    "traced": 0,
    "optim": 1,
    "pictures": 1,
    "health": 1,
    "interrupt": 1,
    "console": 1,
    "compilation": 1,
    "distributed": 1,
    "games": 2,
    "update": 3,
    "parallel": 3,
    "solo": 2,
    "checkpoint": 3,
    "workdir": 3,
    "writers": 3,
    "overrides": 3,
    "recorder": 3,
    "sampling": 3,
    "build": 3,
    "reference": 3,
    "feed": 4,
    "album": 4,
    "verdict": 1,
    "evaluation": 4,
    "judge": 5,
    "profile": 9,
    "describe": 4,
    "aot": 8,
    "evaluate": 6,
    "explore": 6,
    "run": 6,
    "train": 7,
    "population": 7,
    "sweeps": 8,
    "sweep": 9,
}
SAME_LEVEL = {("build", "update"), ("build", "parallel"), ("evaluate", "build"), ("explore", "evaluate")}
LOWEST_MAY_IMPORT = {
    "losses": {"jax", "collections", "typing", "functools", "math"},
    "metrics": {"jax", "numpy", "typing", "collections", "math", "functools"},
    "augment": {"jax", "numpy", "typing", "collections", "math", "functools"},
    "errors": set(),
}


def room_of(path):
    return room_named(path.relative_to(PACKAGE).with_suffix("").parts)


def room_named(parts):
    """The part of the package's folder or file that a path is in; what touches weights is a room of its own."""
    if parts[0] == "metrics" and len(parts) > 1 and parts[1] in ("features", "weights", "networks"):
        return "features"
    return parts[0]


def imports_of(path):
    """Every module that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            if node.module == "jaxgan":
                yield from (f"jaxgan.{alias.name}" for alias in node.names)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_levels(path):
    room = room_of(path)
    assert room in LEVELS, f"give {room} a level in this test"
    for module in imports_of(path):
        if module.startswith("jaxgan."):
            other = room_named(module.split(".")[1:])
            lower = LEVELS[other] < LEVELS[room] or other == room or (room, other) in SAME_LEVEL
            assert lower, f"{room} (level {LEVELS[room]}) imports {other} (level {LEVELS[other]})"
        if room in LOWEST_MAY_IMPORT and not module.startswith(f"jaxgan.{room}"):
            assert module.split(".")[0] in LOWEST_MAY_IMPORT[room], f"{room} imports {module}"


def test_data_knows_no_models_and_configurations_stop_at_the_constructors():
    for path in FILES:
        modules = list(imports_of(path))
        if room_of(path) == "data":
            assert not any(module.startswith("jaxgan.models") for module in modules)
        if LEVELS[room_of(path)] < 3:
            assert not any(module.startswith("ml_collections") for module in modules), path


def test_experiments_import_configurations_only():
    for path in (PACKAGE.parent / "experiments").glob("*.py"):
        assert set(imports_of(path)) <= {"ml_collections", "experiments", "experiments.common"}, path
