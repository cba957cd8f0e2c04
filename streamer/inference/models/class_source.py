"""Whether the class of a `python:` model is there, told from its module's source: nothing of it is imported or run."""

from __future__ import annotations

import ast
import difflib
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from streamer.inference.models.reference import PythonClass, find_top


def class_problem(wanted: PythonClass) -> str:
    """What a start would stumble over, and the fix; "" where nothing is wrong, or can't be told without running it."""
    reference = f"python:{wanted.module}:{wanted.name}"
    spec = find_module(wanted.module)
    if spec is None:
        return (
            f"there is no module {wanted.module} in {Path.cwd()} or among the installed packages; correct its name, or"
            " start in the folder that holds it"
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(Path(spec.origin).read_bytes(), spec.origin)
    except (OSError, ValueError) as error:
        return f"{spec.origin} can't be read ({error}); let this user read it"
    except SyntaxError as error:
        return f"{spec.origin} is not valid Python, in line {error.lineno} ({error.msg}); correct it there"
    return _class_problem(tree, wanted.name, reference, spec.origin)


def find_module(module: str) -> ModuleSpec | None:
    """A module's place. Unlike importlib's, this search does not import the packages that a module lies in."""
    name, *inner = module.split(".")
    spec = find_top(name)
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec


def _class_problem(tree: ast.Module, name: str, reference: str, file: str) -> str:
    bound: dict[str, ast.AST] = {}
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef():
                bound.setdefault(node.name, node)
            case ast.Name(id="globals" | "exec" | "setattr"):  # whatever it makes
                return ""
            case ast.Name(id=word, ctx=ast.Store()):
                bound.setdefault(word, node)
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                if any(alias.name == "*" for alias in names):
                    return ""
                for alias in names:
                    bound.setdefault((alias.asname or alias.name).partition(".")[0], node)
    if name not in bound:
        if "__getattr__" in bound:
            return ""
        classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        near = difflib.get_close_matches(name, classes, n=1)
        fix = f"did you mean {near[0]}?" if near else f"it has {', '.join(classes) or 'no class at all'}"
        return f"{file} has no class {name}; {fix}"
    found = bound[name]
    if isinstance(found, ast.FunctionDef):
        return f"{reference} is a function; name a class with a method predict"
    if isinstance(found, ast.ClassDef) and not (found.bases or found.keywords or found.decorator_list):
        held = {one.name for one in found.body if isinstance(one, ast.FunctionDef)}
        held |= {word.id for one in found.body for word in ast.walk(one) if isinstance(word, ast.Name)}
        if "predict" not in held:
            return f"{reference} has no method predict; write `def predict(self, inputs)`, one output for each input"
    return ""
