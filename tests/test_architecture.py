"""The layout holds: imports go one way, the root stays light, public names are what they are."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hagpolicy

ROOT = Path(hagpolicy.__file__).parent
HEAVY = {"torch", "transformers", "lightgbm", "sklearn", "pyarrow", "onnx", "scipy", "matplotlib", "jinja2", "tqdm"}

# Lowest first; a module may import from its own layer's name and from every layer before it.
LAYERS = [
    ["errors"],
    ["_extras", "_digest", "output"],
    ["processors"],
    ["dialects"],
    ["config"],
    ["space", "prompts"],
    ["results"],
    ["bootstrap", "estimates", "feeds", "maxima", "session", "onnx_scan"],
    ["bundle", "dial", "settings_text"],
    ["card", "decision", "selection"],
    ["policy"],
    ["answers"],
    ["outcomes", "tuning_labels"],
    ["table"],
    ["graphs", "near_duplicates", "objectives"],
    ["encoders", "learners", "engines", "scorers"],
    ["store"],
    ["sweeping"],
    ["caveats", "ladder"],
    ["sizing"],
    ["evaluation", "exporting", "crossfit"],
    ["gating", "rivals", "portfolios"],
    ["fitting"],
    ["compose"],
    ["reporting"],
    ["demo_words"],
    ["demo"],
    ["cli"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
FORBIDDEN = {
    "policy": {"fitting", "learners", "encoders", "graphs", "evaluation"},
    "learners": {"engines", "sweeping", "store"},
    "encoders": {"engines", "sweeping", "store"},
    "sweeping": {"learners", "encoders", "fitting"},
}


def imports(path: Path) -> set[str]:
    """Top-level hagpolicy modules that a file imports, wherever in the file; type-only imports are free."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "hagpolicy":
            found |= {alias.name for alias in node.names if (ROOT / alias.name).is_dir() or _file(alias.name).exists()}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hagpolicy."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hagpolicy.")}
    return found


def _file(name: str) -> Path:
    return ROOT / f"{name}.py"


def modules() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert own in LAYER_OF, f"{own} has no layer: add it to LAYERS"
    for other in imports(path) - {own}:
        assert other in LAYER_OF, f"{path.name} imports {other}, which has no layer"
        assert LAYER_OF[other] < LAYER_OF[own] or {own, other} <= {"engines", "scorers"}, f"{own} imports {other}"
        assert other not in FORBIDDEN.get(own, set())


def test_import_is_light() -> None:
    code = """import sys, json, hagpolicy
hagpolicy.DecodingConfig
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"""
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not HEAVY & set(loaded)


def test_public_names_resolve_and_no_module_hides_one() -> None:
    assert hagpolicy.__all__ == sorted(hagpolicy.__all__)
    for name in hagpolicy.__all__:
        assert getattr(hagpolicy, name) is not None
        assert not (ROOT / f"{name}.py").exists()
        assert not (ROOT / name).exists()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hagpolicy.nothing  # noqa: B018


def test_files_can_be_held_by_a_reader() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert not {name: lines for name, lines in lengths.items() if lines > 350}


def test_no_pickle_no_print() -> None:
    for path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        loaded = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {"pickle", "joblib", "dill"} & loaded, path
        assert "eval" not in names, path
        assert "exec" not in names, path
