"""A test that asserts nothing can't fail for what it says it is about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Such a name says that it is enough to come through.
COMING_THROUGH = re.compile(r"_raises?(_|$)")
# Calls that raise where something is not as it should be.
ASSERTING_CALLS = {"pytest.raises", "pytest.warns", "pytest.fail", "pytest.deprecated_call"}


@dataclass(slots=True)
class Module:
    """The functions of a file of tests by their names, methods and nested ones too, and what it imports from others."""

    functions: dict[str, list[Function]] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)


def read(text: str) -> Module:
    module = Module()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            module.functions.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests"):
            for alias in node.names:
                module.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return module


class Reader:
    """Tells which functions assert: by themselves, or by functions of the tests that they call or use as fixtures."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._modules = {name: read(text) for name, text in texts.items()}
        self._known: dict[int, bool] = {}

    def silent(self) -> list[str]:
        """The tests that assert nothing."""
        return sorted(
            f"{name}.{test.name}"
            for name, module in self._modules.items()
            for functions in module.functions.values()
            for test in functions
            if test.name.startswith("test_") and not COMING_THROUGH.search(test.name) and not self._asserts(name, test)
        )

    def _asserts(self, where: str, function: Function) -> bool:
        key = id(function)
        if key not in self._known:
            self._known[key] = False  # while it is looked at: it may call itself
            self._known[key] = any(self._is_assertion(where, function, node) for node in ast.walk(function))
        return self._known[key]

    def _is_assertion(self, where: str, function: Function, node: ast.AST) -> bool:
        if isinstance(node, ast.Assert):
            return True
        if not isinstance(node, ast.Call):
            return False
        name = ast.unparse(node.func)
        if name in ASSERTING_CALLS or name.rpartition(".")[2].startswith("assert_"):
            return True
        return any(self._asserts(*found) for found in self._called(where, name) if found[1] is not function)

    def _called(self, where: str, name: str) -> Iterator[tuple[str, Function]]:
        """What a call may be of. A method is looked for in this file and those that it imports from, since nothing here
        knows types; a plain name may be a fixture's."""
        owner, _, last = name.rpartition(".")
        module = self._modules[where]
        if owner in module.imported:  # tests.kit.function
            yield from self._of(module.imported[owner], last)
        if not owner and last in module.imported:
            origin, _, original = module.imported[last].rpartition(".")
            yield from self._of(origin, original)
            return
        yield from self._of(where, last)
        if owner:
            for origin in {path.rpartition(".")[0] for path in module.imported.values()}:
                yield from self._of(origin, last)
        else:
            folder = where.rpartition(".")[0]
            for parent in {f"{folder}.conftest", "tests.conftest"}:
                yield from self._of(parent, last)

    def _of(self, module: str, name: str) -> Iterator[tuple[str, Function]]:
        if found := self._modules.get(module):
            yield from ((module, function) for function in found.functions.get(name, []))


def test_every_test_asserts_something() -> None:
    """Itself or by a helper. Where coming through is all there is to see, the name says that nothing raises."""
    texts = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in sorted(TESTS.rglob("*.py"))
    }
    assert Reader(texts).silent() == []


def test_what_asserts_is_told_from_what_does_not() -> None:
    """By statement, by pytest.raises, by a helper of another file, by a method, by a fixture."""
    kit = "def check(x): assert x\ndef loose(x): print(x)\nclass Bed:\n    def law(self): check(1)\n"
    tests = (
        "import pytest\n"
        "from tests import kit\n"
        "from tests.kit import Bed, check as holds, loose\n"
        "def own(x): holds(x)\n"
        "@pytest.fixture\n"
        "def fixture():\n"
        "    def ask(x): assert x\n"
        "    return ask\n"
        "def round_and_round(n): round_and_round(n - 1)\n"
        "def test_statement(): assert 1\n"
        "def test_raises():\n    with pytest.raises(ValueError): loose(1)\n"
        "def test_helper(): holds(1)\n"
        "def test_helper_of_a_helper(): own(1)\n"
        "def test_module(): kit.check(1)\n"
        "def test_method(): Bed().law()\n"
        "def test_fixture(fixture): fixture(1)\n"
        "def test_nothing_raises(): loose(1)\n"
        "def test_nothing(): pass\n"
        "class TestIt:\n    def test_loose(self): loose(1)\n"
        "def test_circle(): round_and_round(1)\n"
    )
    assert Reader({"tests.kit": kit, "tests.unit.test_it": tests}).silent() == [
        "tests.unit.test_it.test_circle",
        "tests.unit.test_it.test_loose",
        "tests.unit.test_it.test_nothing",
    ]
