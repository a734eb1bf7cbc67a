"""Do the tests notice a wrong formula? Changes one thing in a file at a time and runs the tests on the result.

    python -m tests.mutation jaxgan/losses/penalties.py
    python -m tests.mutation jaxgan/losses --jobs 2 --sample 200 --seed 0 --json mutants.json

A mutant is the file with one operator, constant, condition, function or order of arguments changed, in memory only. It
is killed if a test fails (or the file no longer imports, or the tests outlast the time limit), else it survives: a
test is missing, or the change is none. Docstrings, annotations, imports, `__all__` and raised messages are left alone.
Exit status 0 if the share of killed mutants reaches `--at_least` per cent.

Every mutant is tested in a fork of a process that has imported JAX, pytest and the tests' libraries but nothing of
jaxgan, and has touched no device: forking after that would deadlock. A first run, of the unchanged files, has to pass;
it also notes how long each test takes and which functions it enters, so that a mutant first meets the quick
tests of its function. Survivors meet all tests. What a test runs in a process of its own sees the unchanged file.

A file that is edited meanwhile does no harm: what was read at the start is what is tested. Needs a system with `fork`.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import random
import selectors
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would be forked

import pytest

from tests import conftest  # sets JAX's environment before JAX is imported

ROOT = conftest.ROOT
BINARY = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
COMPARISON = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
# A comparison whose other half is its negation: negating the condition around it gives the same mutant twice.
NEGATED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
# Of JAX's modules, of arrays' methods, or imported by name.
FUNCTION = {
    "sum": "mean",
    "mean": "sum",
    "max": "min",
    "min": "max",
    "any": "all",
    "all": "any",
    "argmax": "argmin",
    "argmin": "argmax",
    "minimum": "maximum",
    "maximum": "minimum",
    "relu": "softplus",
    "softplus": "relu",
    "square": "abs",
    "abs": "square",
    "sqrt": "square",
    "exp": "expm1",
    "expm1": "exp",
    "log": "log1p",
    "log1p": "log",
    "logsumexp": "max",
    "std": "var",
    "var": "std",
    "floor": "ceil",
    "zeros": "ones",
    "ones": "zeros",
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
    "sin": "cos",
    "cos": "sin",
    "pmean": "psum",
    "psum": "pmean",
    "uniform": "normal",
    "normal": "uniform",
    "log_softmax": "softmax",
}
METHODS = ("sum", "mean", "max", "min", "any", "all", "argmax", "argmin", "std", "var")
IN_NN = ("relu", "softplus", "softmax", "log_softmax", "logsumexp")  # the others are in jax.numpy
COMMUTATIVE = ("minimum", "maximum", "add", "multiply")
NOT_NUMBERS = (ast.Lambda, ast.Dict, ast.DictComp, ast.JoinedStr)
SMALL = 1e-3  # a constant below it guards against rounding; twice as much of it is no change
SHOWN = (ast.BinOp, ast.BoolOp, ast.Compare, ast.Call, ast.Return, ast.Lambda, ast.IfExp, ast.If, ast.Subscript)
TOUCH = "__touch__"
PASSED, FAILED = 0, 1  # pytest's
Text = Callable[[], str]


@dataclass
class Source:
    """A file under test."""

    path: pathlib.Path
    tree: ast.Module
    functions: list[ast.AST]

    @property
    def module(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))


@dataclass
class Mutant:
    """One change: `parent.field` (or its `index`-th entry) becomes `new`."""

    source: Source
    parent: ast.AST
    field: str
    index: int | None
    old: Any
    new: Any
    line: int
    function: int | None  # the number of the function around it, None at the module's level
    before: str = ""
    after: str = ""
    outcome: str = ""
    by: str = ""
    seconds: float = 0.0

    def put(self, node: Any) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    def describe(self, text: Text) -> None:
        before = text()
        self.put(self.new)
        after = text()
        self.put(self.old)
        self.before, self.after = _shortened(before, after)

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}: {self.before} -> {self.after}"


# The mutants of a file


def read(path: pathlib.Path) -> Source:
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            for index in getattr(node.slice, "elts", [node.slice]):
                index.is_index = True
    return Source(path, tree, [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)])


def mutants_of(source: Source) -> list[Mutant]:
    """All of them, in the order of the file."""
    numbers = {id(node): i for i, node in enumerate(source.functions)}
    names = {function.name for function in source.functions}
    found, seen = [], set()

    def visit(node: ast.AST, parent: ast.AST, place: str, index: int | None, function: int | None, text: Text):
        """`text` shows the nearest expression, default or statement that tells a reader what is changed in it."""
        if _is_skipped(node, parent, place):
            return
        function = numbers.get(id(node), function)
        if isinstance(parent, ast.arguments):
            text = partial(_default, parent, place, index)
        returns_function = isinstance(node, ast.Return) and getattr(node.value, "id", "") in names
        changes = [] if returns_function else list(_changes(node))  # minus a function is no program
        if isinstance(node, SHOWN):
            text = partial(_unparsed, node)
        for where, new in changes:
            target = (parent, place, index, node) if where is None else (node, *where)
            key = (id(target[0]), *target[1:3], ast.dump(new))
            if key not in seen:
                seen.add(key)
                line = node.lineno if hasattr(node, "lineno") else parent.lineno
                mutant = Mutant(source, *target, new, line, function)
                if where is None and isinstance(node, SHOWN):  # `text` would go on showing what was replaced
                    mutant.describe(lambda: _unparsed(_entry(parent, place, index)))
                else:
                    mutant.describe(text)
                found.append(mutant)
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                visit(value, node, field, None, function, text)
            elif isinstance(value, list):
                for i, child in enumerate(value):
                    if isinstance(child, ast.AST):
                        visit(child, node, field, i, function, text)

    for i, statement in enumerate(source.tree.body):
        visit(statement, source.tree, "body", i, None, partial(_unparsed, statement))
    return sorted(found, key=lambda mutant: mutant.line)


def _entry(parent: ast.AST, place: str, index: int | None) -> Any:
    value = getattr(parent, place)
    return value if index is None else value[index]


def _unparsed(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):  # without what depends on the condition
        return f"if {ast.unparse(node.test)}"
    return ast.unparse(node)


def _default(arguments: ast.arguments, place: str, index: int) -> str:
    """name=value"""
    if place == "defaults":
        positional = [*arguments.posonlyargs, *arguments.args]
        argument = positional[index - len(arguments.defaults)]
    else:
        argument = arguments.kwonlyargs[index]
    return f"{argument.arg}={ast.unparse(_entry(arguments, place, index))}"


def _is_skipped(node: ast.AST, parent: ast.AST, place: str) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.JoinedStr):
        return True
    if place in ("annotation", "returns", "decorator_list"):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # docstrings
        return True
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id == "__all__"
    # -n, axis=n: one mutant for both parts
    return isinstance(parent, ast.keyword) and parent.arg == "axis" and _whole(node) is not None


def _whole(node: ast.AST) -> int | None:
    """The value of a literal whole number, negative ones too."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _whole(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None


Change = tuple[tuple[str, int | None, Any] | None, ast.AST]


def _changes(node: ast.AST) -> Iterator[Change]:
    """(None, what the node becomes), or ((field, index, old) of the node, what that becomes)."""
    for rule in _RULES.get(type(node), ()):
        yield from rule(node)
    test = getattr(node, "test", None)
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield from _negated(("test", None, test), test)
    if isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            yield from _negated(("ifs", i, test), test)


def _negated(where, test: ast.AST) -> Iterator[Change]:
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], NEGATED):
        return
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield where, test.operand
    else:
        yield where, ast.UnaryOp(ast.Not(), test)


def _operator(node) -> Iterator[Change]:
    if type(node.op) in BINARY:
        yield ("op", None, node.op), BINARY[type(node.op)]()


def _unary(node) -> Iterator[Change]:
    if isinstance(node.op, ast.USub):
        yield None, node.operand


def _comparison(node) -> Iterator[Change]:
    for i, op in enumerate(node.ops):
        yield ("ops", i, op), COMPARISON[type(op)]()


def _boolean(node) -> Iterator[Change]:
    yield ("op", None, node.op), (ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _constant(node) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield None, ast.Constant(not value)
    elif isinstance(value, int):
        # JAX takes the last entry for an index beyond it, so the one before is the other.
        yield None, ast.Constant(value - 1 if value and hasattr(node, "is_index") else value + 1)
    elif isinstance(value, float):
        yield None, ast.Constant(1.0 if value == 0 else 0.0 if abs(value) < SMALL else 2 * value)


def _axis(node) -> Iterator[Change]:
    value = _whole(node.value) if node.arg == "axis" else None
    if value is not None:
        yield ("value", None, node.value), ast.Constant(0) if value else ast.UnaryOp(ast.USub(), ast.Constant(1))


def _return(node) -> Iterator[Change]:
    """-(returned), of the first entry of a tuple."""
    place = "value" if isinstance(node, ast.Return) else "body"
    value = getattr(node, place)
    if isinstance(value, ast.Tuple) and value.elts:
        yield (place, None, value), ast.Tuple([_minus(value.elts[0]), *value.elts[1:]], ast.Load())
    elif value is not None and not isinstance(value, (*NOT_NUMBERS, ast.Constant, ast.Tuple)):
        yield (place, None, value), _minus(value)


def _minus(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return node.operand
    return ast.UnaryOp(ast.USub(), node)


def _call(node) -> Iterator[Change]:
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if called == "stop_gradient" and len(node.args) == 1:
        yield None, node.args[0]
    if isinstance(node.func, ast.Attribute) and called in METHODS and not _is_module(node.func.value):
        yield ("func", None, node.func), ast.Attribute(node.func.value, FUNCTION[called], ast.Load())
    first = node.args[:2]
    if len(first) == 2 and all(isinstance(a, ast.Name) for a in first) and called not in (*COMMUTATIVE, "isinstance"):
        if first[0].id != first[1].id:
            yield None, ast.Call(node.func, [*first[::-1], *node.args[2:]], node.keywords)
    if called == "where" and len(node.args) == 3:
        yield None, ast.Call(node.func, [node.args[0], *node.args[:0:-1]], node.keywords)


def _attribute(node) -> Iterator[Change]:
    """jnp.square -> jnp.abs, called or handed on."""
    if node.attr in FUNCTION and _is_module(node.value):
        new = FUNCTION[node.attr]
        yield None, ast.Attribute(ast.Name("jnp", ast.Load()) if new == "max" else node.value, new, ast.Load())


def _name(node) -> Iterator[Change]:
    if node.id in IN_NN and isinstance(node.ctx, ast.Load):
        yield None, ast.parse(f"__import__('jax').{_home(FUNCTION[node.id])}", mode="eval").body


def _home(function: str) -> str:
    return f"nn.{function}" if function in IN_NN else f"numpy.{function}"


def _is_module(node: ast.AST) -> bool:
    return ast.unparse(node).split(".")[0] in ("jnp", "jax", "lax", "random", "math")


_RULES = {
    ast.BinOp: (_operator,),
    ast.AugAssign: (_operator,),
    ast.UnaryOp: (_unary,),
    ast.Compare: (_comparison,),
    ast.BoolOp: (_boolean,),
    ast.Constant: (_constant,),
    ast.keyword: (_axis,),
    ast.Return: (_return,),
    ast.Lambda: (_return,),
    ast.Call: (_call,),
    ast.Attribute: (_attribute,),
    ast.Name: (_name,),
}


def _shortened(before: str, after: str, around: int = 40) -> tuple[str, str]:
    """Both texts on a line, cut to what differs and some of what is around it."""
    before, after = " ".join(before.split()), " ".join(after.split())
    if max(len(before), len(after)) <= 2 * around:
        return before, after
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])

    def cut(x):
        first, last = max(0, start - around), min(len(x), len(x) - end + around)
        return ("..." if first else "") + x[first:last] + ("..." if last < len(x) else "")

    return cut(before), cut(after)


def _common(a: str, b: str) -> int:
    """How many characters at the beginning are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


# A fork, from the inside


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a tree in place of its file."""

    def __init__(self, source: Source, touch=None):
        super().__init__(source.module, str(source.path))
        self.source, self.touch = source, touch

    def get_code(self, fullname):
        return compile(ast.fix_missing_locations(self.source.tree), str(self.source.path), "exec")

    def exec_module(self, module):
        module.__dict__[TOUCH] = self.touch
        super().exec_module(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules under test before Python does."""

    def __init__(self, loaders: list[Loader]):
        self.loaders = {loader.source.module: loader for loader in loaders}

    def find_spec(self, fullname, path=None, target=None):
        loader = self.loaders.get(fullname)
        return loader and importlib.util.spec_from_file_location(fullname, loader.path, loader=loader)


class Order:
    """The pytest plugin of a mutant's run: the tests that may kill it soonest come first."""

    def __init__(self, mutant: Mutant, notes: dict):
        stem = f"test_{mutant.source.path.stem}.py"
        entered = set(notes["functions"].get(f"{mutant.source.name}:{mutant.function}", ()))
        self.rank = {
            test: (test not in entered, stem not in test, seconds) for test, seconds in notes["seconds"].items()
        }
        self.failed = ""

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.rank.get(item.nodeid, (False, False, 0.0)))

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.failed:
            self.failed = report.nodeid


class Notes:
    """The pytest plugin of the first run: each test's time, and the functions under test that it enters."""

    def __init__(self):
        self.test, self.seconds, self.functions = "", {}, {}

    def touch(self, name):
        self.functions.setdefault(name, {})[self.test] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.test = item.nodeid
        try:
            return (yield)
        finally:
            self.test = ""

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def content(self):
        return {"seconds": self.seconds, "functions": {name: list(tests) for name, tests in self.functions.items()}}


def run_tests(tests: list[str], plugin) -> int:
    with contextlib.suppress(ImportError):
        import hypothesis

        # The same examples for every mutant, and none of them kept for the next.
        hypothesis.settings.register_profile("mutation", database=None, derandomize=True)
        hypothesis.settings.load_profile("mutation")
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def first_run(sources: list[Source], tests: list[str]) -> dict:
    notes, loaders = Notes(), []
    for source in sources:
        for i, function in enumerate(source.functions):
            call = ast.parse(f"{TOUCH}({f'{source.name}:{i}'!r})").body
            has_docstring = ast.get_docstring(function, clean=False) is not None
            function.body[has_docstring:has_docstring] = call
        loaders.append(Loader(source, notes.touch))
    sys.meta_path.insert(0, Finder(loaders))
    return {"status": run_tests(tests, notes), **notes.content()}


def mutant_run(mutant: Mutant, tests: list[str], notes: dict) -> dict:
    mutant.put(mutant.new)
    sys.meta_path.insert(0, Finder([Loader(mutant.source)]))
    order = Order(mutant, notes)
    status = run_tests(tests, order)
    return {"status": status, "by": order.failed}


# Forks, from the outside


class Fork:
    """A child process that runs a function, and the pipe by which its answer comes."""

    def __init__(self, function, *args, output: str = os.devnull):
        self.begun = time.monotonic()
        self.pipe, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            os.set_blocking(self.pipe, False)
            self.text = b""
            return
        try:
            os.setsid()  # so that what the tests start can be ended with them
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            answer = function(*args)
        except BaseException as error:  # a mutant may raise anything
            answer = {"status": FAILED, "by": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            _write_all(write, json.dumps(answer).encode())
        os._exit(0)  # without the parent's handlers

    def read(self) -> bool:
        """Takes what has come; True at the end."""
        part = os.read(self.pipe, 1 << 20)
        self.text += part
        return not part

    def end(self) -> dict:
        """Reaps the child. A child that died without an answer was killed by its mutant."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        return json.loads(self.text) if self.text else {"status": FAILED, "by": "the process died"}


def _write_all(pipe: int, content: bytes) -> None:
    while content:
        content = content[os.write(pipe, content) :]


def prepare(tests: list[str]) -> None:
    """Imports here, once, what the tests import (of others), and makes sure that forking is safe."""
    if not hasattr(os, "fork"):
        sys.exit("mutation: this system cannot fork a process")
    files = [file for test in tests for file in _python_files(ROOT / test.split("::")[0])]
    names = {"jax.test_util", "pytest", "hypothesis"}
    for file in files:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module)
    for name in sorted(names):
        if name.split(".")[0] not in ("jaxgan", "tests", "experiments"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    from jax._src import xla_bridge

    if xla_bridge.backends_are_initialized():
        sys.exit("mutation: something that the tests import has initialised JAX's devices; forks would deadlock")
    if any(name.split(".")[0] == "jaxgan" for name in sys.modules):
        sys.exit("mutation: something that the tests import has imported jaxgan; mutants would not be seen")
    threads = pathlib.Path("/proc/self/task")
    if threads.exists() and len(list(threads.iterdir())) > 1:
        sys.exit("mutation: something that the tests import has started threads; forks may deadlock")


def _python_files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def baseline(sources: list[Source], tests: list[str]) -> tuple[dict, float]:
    """What the first run noted, and how long it took; ends the program if it fails."""
    with tempfile.NamedTemporaryFile(suffix=".txt") as output:
        fork = Fork(first_run, sources, tests, output=output.name)
        with selectors.DefaultSelector() as selector:
            selector.register(fork.pipe, selectors.EVENT_READ)
            try:
                while not (selector.select() and fork.read()):
                    pass
            finally:
                notes = fork.end()
        if notes["status"] != PASSED:
            lines = pathlib.Path(output.name).read_text(errors="replace").splitlines()
            reason = notes.get("by", "")
            sys.exit("\n".join([*lines[-40:], f"mutation: the tests do not pass on the unchanged files. {reason}"]))
    return notes, time.monotonic() - fork.begun


def try_all(mutants: list[Mutant], tests: list[str], notes: dict, jobs: int, limit: float) -> None:
    """Fills in the outcomes; on Ctrl-C, of those that were tested."""
    begun = said = time.monotonic()
    waiting, running, done = list(reversed(mutants)), {}, 0
    with selectors.DefaultSelector() as selector:

        def finish(fork, outcome=None):
            nonlocal done
            mutant = running.pop(fork)
            selector.unregister(fork.pipe)
            answer = fork.end()
            mutant.seconds = round(time.monotonic() - fork.begun, 2)
            has_passed = answer["status"] == PASSED
            mutant.outcome = outcome or ("survived" if has_passed else "killed")
            mutant.by = "" if outcome or has_passed else answer["by"] or f"pytest's status {answer['status']}"
            done += 1

        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    mutant = waiting.pop()
                    fork = Fork(mutant_run, mutant, tests, notes)
                    running[fork] = mutant
                    selector.register(fork.pipe, selectors.EVENT_READ, fork)
                last = min(fork.begun for fork in running) + limit
                for key, _ in selector.select(max(0.0, last - time.monotonic())):
                    if key.data.read():
                        finish(key.data)
                for fork in [fork for fork in running if time.monotonic() - fork.begun > limit]:
                    finish(fork, "timeout")
                now = time.monotonic()
                if done and (now - said > (1 if sys.stderr.isatty() else 30) or not (waiting or running)):
                    said = now
                    _progress(mutants, done, now - begun)
        except KeyboardInterrupt:
            for fork in list(running):
                finish(fork, "not tested")
            for mutant in waiting:
                mutant.outcome = "not tested"
    if sys.stderr.isatty():
        print(file=sys.stderr)


def _progress(mutants: list[Mutant], done: int, seconds: float) -> None:
    survived = sum(mutant.outcome == "survived" for mutant in mutants)
    left = (len(mutants) - done) * seconds / done
    text = f"{done}/{len(mutants)} mutants, {survived} survived, {60 * done / seconds:.1f} a minute, {_time(left)} left"
    print(text, end="   \r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def report(sources: list[Source], mutants: list[Mutant], at_least: float) -> bool:
    """Prints the table and the survivors; whether the whole score is high enough."""

    def line(name, group):
        survived = sum(mutant.outcome == "survived" for mutant in group)
        timeouts = sum(mutant.outcome == "timeout" for mutant in group)
        score = 100 * (1 - survived / len(group)) if group else 100.0
        killed = len(group) - survived
        extra = f" ({timeouts} by the time limit)" if timeouts else ""
        print(f"{name}: {len(group)} mutants, {killed} killed{extra}, {survived} survived, score {score:.1f} %")
        return score

    tested = [mutant for mutant in mutants if mutant.outcome not in ("", "not tested")]
    for source in sources:
        group = [mutant for mutant in tested if mutant.source is source]
        line(source.name, group)
        for mutant in group:
            if mutant.outcome == "survived":
                print(f"  {mutant}")
    score = line("all", tested) if len(sources) > 1 else None
    if len(tested) < len(mutants):
        print(f"not tested: {len(mutants) - len(tested)} mutants")
    if score is None:
        survived = sum(mutant.outcome == "survived" for mutant in tested)
        score = 100 * (1 - survived / len(tested)) if tested else 100.0
    return score >= at_least


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", help="files, or folders of files")
    parser.add_argument("--tests", nargs="+", default=["tests/losses"], help="what pytest is given")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds for a mutant, or 5 times the first run")
    parser.add_argument("--at_least", type=float, default=95.0, help="per cent killed, for exit status 0")
    parser.add_argument("--list", action="store_true", help="show the mutants and test none")
    parser.add_argument("--json", help="a file for every mutant's outcome")
    args = parser.parse_args()

    os.chdir(ROOT)
    files = [file for path in args.paths for file in _python_files(ROOT / path)]
    sources = [read(file.resolve()) for file in dict.fromkeys(files) if file.name != "__init__.py"]
    mutants = [mutant for source in sources for mutant in mutants_of(source)]
    if args.sample is not None and args.sample < len(mutants):
        chosen = set(random.Random(args.seed).sample(range(len(mutants)), args.sample))
        mutants = [mutant for i, mutant in enumerate(mutants) if i in chosen]
    if args.list:
        print(*mutants, sep="\n")
        return
    if not mutants:
        sys.exit("mutation: nothing to change in these files")

    prepare(args.tests)
    notes, seconds = baseline(sources, args.tests)
    found = f"{len(notes['seconds'])} tests pass in {_time(seconds)}; {len(mutants)} mutants"
    print(found, file=sys.stderr, flush=True)
    try_all(mutants, args.tests, notes, args.jobs, max(args.timeout, 5 * seconds))
    is_enough = report(sources, mutants, args.at_least)
    if args.json:
        names = ("line", "before", "after", "outcome", "by", "seconds")
        rows = [{"file": m.source.name, **{name: getattr(m, name) for name in names}} for m in mutants]
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(0 if is_enough else 1)


if __name__ == "__main__":
    main()
