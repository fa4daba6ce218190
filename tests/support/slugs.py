"""Collects every slug that the code can raise, with its exit code, from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mpchan
from mpchan import errors

PACKAGE = Path(mpchan.__file__).parent
CLASSES = {name: kind.exit_code for name, kind in vars(errors).items() if hasattr(kind, "exit_code")}
HELPERS = {"storage_error": 7, "_malformed": 3, "_fail": 3}


def slugs() -> set[tuple[int, str]]:
    """Every (exit code, slug)."""
    found: set[tuple[int, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found.update(_of_call(node))
            elif isinstance(node, ast.ClassDef):
                found.update(_of_store(node))
    return found


def _of_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if not node.args:
        return
    slug = _slug(node.args[0])
    if slug is None:
        return
    if name == "Rule":
        given = [keyword.value for keyword in node.keywords if keyword.arg == "error"]
        for kind in given or [ast.Name("Refused")]:
            yield CLASSES[kind.id] if isinstance(kind, ast.Name) else 0, slug
    elif name in CLASSES:
        yield CLASSES[name], slug
    elif name in HELPERS and "-" in slug and " " not in slug:
        yield HELPERS[name], slug
    elif name == "own_rule":  # of what fsck finds in the wallet's own files
        yield 7, slug
    elif name in ("kind", "wrong"):
        yield 4, slug


def _of_store(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    """Of files whose damage has a slug of their own: a ``wallet.store.Store`` of one kind."""
    if not any(isinstance(base, ast.Subscript) and ast.unparse(base.value) == "Store" for base in node.bases):
        return
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Tuple):
            names = [ast.unparse(target) for target in line.targets[0].elts]
            assert isinstance(line.value, ast.Tuple)
            yield 7, _slug(line.value.elts[names.index("slug")]) or ""


def _slug(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        return f"{node.values[0].value!s}…"
    return None
