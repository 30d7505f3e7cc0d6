"""The layout holds: every import points to an earlier room, no circle, a light root, public names that resolve."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hagpolicy

ROOT = Path(hagpolicy.__file__).parent
# A string that reads like a module and names a file: the note in the folder of a converted model.
FILE_NAMES = {"hagpolicy.json"}
DOTTED = re.compile(r"hagpolicy(\.[a-z_]+)+(:\w+)?")
HEAVY = {"torch", "transformers", "lightgbm", "sklearn", "pyarrow", "onnx", "scipy", "matplotlib", "jinja2", "tqdm"}

# In import order: a room imports from rooms above it only. What needs a new room adds a line here and says why.
ROOMS = [
    "errors",
    "_pyinstaller",  # knows nothing of the others: it runs while a program is frozen
    "_extras",
    "_digest",
    "_files",
    "_folders",
    "_names",
    "_checks",
    "_text",
    "_code_files",  # objects in files of the caller's, for scorers and the command line
    "results",
    "config",
    "data",
    "data.store",
    "artefacts",  # folders that an engine is given beside the model: of data, known to engines and whoever builds them
    "policy",
    "analysis",
    "analysis.logged",  # of live traffic: no table, no prompt, and nothing that the rest of the analysis needs
    "engines",
    "scorers",
    "simulated",
    "sweeping",
    "tuning",  # builders of artefacts, hints and spaces: they hold engines, and sweep what they made
    "fitting",
    "serving",
    "reporting",
    "cli",
    "__main__",  # `python -m hagpolicy`
]
# Rooms that know nothing of each other, whatever their order: each can be installed, read and changed by itself.
APART = {
    "fitting": {"engines", "scorers", "simulated", "sweeping"},
    "serving": {"fitting", "analysis", "analysis.logged", "sweeping", "scorers", "simulated"},
    "reporting": {"fitting", "sweeping", "engines", "scorers", "simulated", "serving"},
}
# Inside these rooms the order of files is held too.
INSIDE = {
    "config": [
        "fields",
        "slots",
        "constraints",
        "masks",
        "dialects",
        "render",
        "servers",
        "config",
        "space",
        "adapters",
        "endpoints",
    ],
    "data.store": [
        "cells",
        "place",
        "locks",
        "remote",
        "files",
        "digests",
        "records",
        "segments",
        "index",
        "reader",
        "tidying",
        "folder",
        "texts",
        "loading",
    ],
    "fitting": [
        "plugins",
        "graphs",
        "encoders",
        "learners",
        "baselines",
        "timing",
        "training",
        "prepare",
        "departures",
        "crossfit",
        "gate",
        "precision",
        "verdict",
        "told",
        "compare",
        "policy_graph",
        "examples",
        "export",
        "fit",
        "distill",
        "until",
    ],
    "sweeping": [
        "budget",
        "plan",
        "health",
        "scoring",
        "spec",
        "strategies",
        "forecast",
        "drive",
        "sweep_run",
        "run",
    ],
    "scorers": [
        "base",
        "checked",
        "functions",
        "weighted",
        "text",
        "code",
        "judge",
        "reward_model",
        "registry",
        "files",
    ],
}


def modules() -> list[Path]:
    """Every module of the package but its root, whose names are strings."""
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def name_of(path: Path) -> str:
    """Dotted name below the package; a face has the name of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The longest room that holds a module."""
    found = [room for room in ROOMS if module == room or module.startswith(f"{room}.")]
    assert found, f"{module} is in no room: add it to ROOMS, and say why"
    return max(found, key=len)


NAMES = {name_of(path) for path in modules()}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever it does, for types only too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("hagpolicy.") for alias in node.names if alias.name.startswith("hagpolicy.")
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hagpolicy":
            base = (node.module or "").removeprefix("hagpolicy").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                found.add(inner if inner in NAMES else base)
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return found - {""}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_to_earlier_rooms(path: Path) -> None:
    own = room_of(name_of(path))
    for module in imported(path):
        other = room_of(module)
        assert ROOMS.index(other) <= ROOMS.index(own), f"{own} imports {module}"
        assert other not in APART.get(own, set()), f"{own} knows nothing of {other}"


def part_of(module: str, room: str) -> str:
    """The file or folder of a room in which a module lies; "" for the room's face, and for modules of other rooms."""
    return module.removeprefix(f"{room}.").partition(".")[0] if module != room and room_of(module) == room else ""


@pytest.mark.parametrize("room", [room for room, order in INSIDE.items() if order])
def test_files_of_a_room_import_those_before_them(room: str) -> None:
    order = INSIDE[room]
    parts = {path: part for path in modules() if (part := part_of(name_of(path), room))}
    assert set(parts.values()) == set(order)
    for path, own in parts.items():
        for other in {part_of(module, room) for module in imported(path)} - {"", own}:
            assert order.index(other) < order.index(own), f"{name_of(path)} imports {other}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {name_of(path): imported(path) for path in modules()}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys() - {name}]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"import each other, or are imported by such: {sorted(waiting)}"


def test_strings_that_name_modules_resolve() -> None:
    """Registries name classes by dotted strings, which no import checks."""
    for path in [*modules(), ROOT / "__init__.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
                module = node.value.partition(":")[0].removeprefix("hagpolicy.")
                assert module in NAMES or node.value in FILE_NAMES, f"{path}: {node.value}"


def test_import_is_light() -> None:
    code = """import sys, json, hagpolicy
hagpolicy.DecodingConfig
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"""
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not HEAVY & set(loaded)


def test_the_root_holds_rooms_and_no_other_names() -> None:
    at_root = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert at_root - {"__init__"} == {room for room in ROOMS if "." not in room}


def test_faces_hold_names_and_define_nothing() -> None:
    for path in ROOT.rglob("*/__init__.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 40, path
        tree = ast.parse(text)
        assert not [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)], path


def test_no_public_class_name_stands_twice() -> None:
    homes: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(path))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


def test_public_names_resolve_and_no_module_hides_one() -> None:
    assert hagpolicy.__all__ == sorted(hagpolicy.__all__)
    for name in hagpolicy.__all__:
        assert getattr(hagpolicy, name) is not None
        assert not (ROOT / f"{name}.py").exists()
        assert not (ROOT / name).exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hagpolicy.nothing  # noqa: B018


def test_no_pickle_no_print() -> None:
    for path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        loaded = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {"pickle", "joblib", "dill"} & loaded, path
        assert "eval" not in names, path
        assert "exec" not in names, path
