"""Which text of an answer is its program.

`find_code_blocks` reads an answer in the caller's process, line by line, in time proportional to its length. All
else compiles what it is given, so it is for the processes of the sandbox and, of it, only what reads tests for the
caller: a compiler is not to be given hostile text there.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import symtable
import textwrap
import types
from collections.abc import Iterator, Sequence

_PYTHON = {"", "py", "py3", "python", "python3", "ipython", "ipython3", "pycon", "sage"}
_MARKDOWN = {"markdown", "md"}
_STARTS = ("def ", "class ", "import ", "from ", "async def ", "@")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MOST_BLOCKS, _MOST_CUTS = 40, 12
_BUILTINS = {*vars(builtins), "__name__", "__file__", "__doc__", "__builtins__", "__annotations__"}


# ------------------------------------------------------------------ in the caller's process


def find_code_blocks(text: str) -> list[str]:
    """Fenced blocks that are Python or say nothing of their language; one that is not closed goes to the end."""
    found: list[str] = []
    for language, block in _split_fences(text):
        if language in _PYTHON:
            found.append(block)
        elif language in _MARKDOWN:  # a document within the answer
            found += [inner for name, inner in _split_fences(block) if name in _PYTHON]
    return found


def looks_like_code(text: str) -> bool:
    """Whether a line of a text begins a definition or an import."""
    return any(line.lstrip(" \t").startswith(_STARTS[:5]) for line in text.split("\n"))


def _split_fences(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block, as CommonMark has them, however far they are indented."""
    fence, language, margin = "", "", 0
    inside: list[str] = []
    for line in text.split("\n"):
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        mark = bare[:1] if bare[:3] in ("```", "~~~") else ""
        size = len(bare) - len(bare.lstrip(mark)) if mark else 0
        info = bare[size:].strip()
        if fence:
            at_edge = mark == fence[0] and size >= len(fence) and indent <= margin + 3
            if not at_edge or (info and "`" in info):
                # A block within a list is indented as a whole.
                inside.append(line[min(indent, margin) :])
                continue
            yield language, "\n".join([*inside, ""])
            fence, inside = "", []
            if not info:
                continue
        if mark == "`" and "`" in info:  # a block in one line
            first, _, rest = info.rstrip("`").partition(" ")
            named = first.lower() in _PYTHON
            yield "", (rest if named else info.rstrip("`")) + "\n"
        elif mark:
            fence, language, margin = mark * size, _read_language(info), indent
    if fence:
        yield language, "\n".join([*inside, ""])


def _read_language(info: str) -> str:
    """The language that the words behind a fence name: `Python3 title="x"`, `{.python}`, `py:main.py`."""
    first = info.lower().lstrip("{. ").replace("{", " ").replace("}", " ").replace(",", " ").replace(":", " ").split()
    word = first[0].removeprefix("language-") if first else ""
    return "" if "=" in word or "." in word else word


# ------------------------------------------------------------------ names


def find_global_names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a source reads, and those that it binds."""
    used: set[str] = set()
    bound: set[str] = set()
    tables = [symtable.symtable(source, "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            top = table.get_type() == "module"
            if (top or symbol.is_global()) and symbol.is_referenced():
                used.add(symbol.get_name())
            if (top or symbol.is_declared_global()) and (symbol.is_assigned() or symbol.is_imported()):
                bound.add(symbol.get_name())
    return used, bound


def find_read_names(source: str) -> set[str]:
    """The global names that functions and classes of a source read, and those that it reads and does not bind."""
    used, bound = find_global_names(source)
    tables = symtable.symtable(source, "<source>", "exec").get_children()
    inner: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        inner |= {one.get_name() for one in table.get_symbols() if one.is_global() and one.is_referenced()}
    return inner | (used - bound)


def split_prompt(head: str, entry_point: str) -> tuple[ast.Module, bool]:
    """The code of a prompt without what is to be written, and whether it had such: a function without a body."""
    for text in (head, f"{head.rstrip()}\n    pass\n"):
        if (tree := _parse(text)) is not None:
            kept = [node for node in tree.body if not _is_stub(node) and getattr(node, "name", "") != entry_point]
            stubs = any(_is_stub(node) for node in tree.body)
            return ast.Module([node for node in kept if not _is_docstring(node)], []), stubs
    return ast.Module([], []), False


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_stub(node: ast.stmt) -> bool:
    """Whether a function only says what it would do."""
    if not isinstance(node, _FUNCTIONS):
        return False
    rest = [one for one in node.body if not _is_docstring(one) and not isinstance(one, ast.Pass)]
    return not rest or (len(rest) == 1 and isinstance(rest[0], ast.Raise) and "NotImplemented" in ast.dump(rest[0]))


# ------------------------------------------------------------------ in the sandbox


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a source that is no file."""

    def __init__(self, source: str | ast.Module) -> None:
        super().__init__("answer", "<answer>")
        self._source = source

    def get_code(self, fullname: str) -> types.CodeType:
        return compile(self._source, self.path, "exec")


def run_source(source: str | ast.Module, module: types.ModuleType) -> None:
    """Run a source in a module by the ordinary machinery of imports; raises what it raises."""
    _Loader(source).exec_module(module)


class _Piece:
    """A text that compiles.

    Attributes:
        defined: names of its functions, classes and variables at the top, without stubs.
        functions: those of functions and classes.
        whole: whether nothing was cut off it.
    """

    def __init__(self, text: str, tree: ast.Module, whole: bool) -> None:
        self.text, self.tree, self.whole = text, tree, whole
        self.used, self.bound = find_global_names(text)
        stubs = {node.name for node in tree.body if isinstance(node, _FUNCTIONS) and _is_stub(node)}
        functions = {node.name for node in tree.body if isinstance(node, (*_FUNCTIONS, ast.ClassDef))}
        imported = {
            (one.asname or one.name) for node in ast.walk(tree) if isinstance(node, _IMPORTS) for one in node.names
        }
        self.open = "*" in imported
        lambdas = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.defined = (self.bound | functions) - stubs - imported
        self.functions = (functions | lambdas) - stubs


_IMPORTS = (ast.Import, ast.ImportFrom)


def choose_program(rows: Sequence[Sequence[str]], head: str, wanted: Sequence[str]) -> str:
    """The program that an answer means.

    The last block that is whole and defines what is wanted, with what it needs of other blocks; else one that was
    broken off after it; else the prompt's code continued by a block; else the longest block, whatever is in it.

    Args:
        rows: blocks of the answer, by one reading of it a row, the likeliest first.
        head: the code of the prompt, which goes before; "" where it has none.
        wanted: names that the tests use.
    """
    start = _trim(head, _MOST_CUTS)
    above = _Piece(start, ast.parse(start), True) if start else None
    names = set(wanted)
    for row in rows:
        pieces = [piece for text in row[-_MOST_BLOCKS:] if (piece := _read_piece(text, names)) is not None]
        if (solution := _find_solution(pieces, above, names)) is not None:
            return _join(above, pieces, solution, names)
        for text in reversed(row[-_MOST_BLOCKS:]):
            if head and (continued := _continue(head, text, names)) is not None:
                return continued
    if blocks := [piece for text in rows[0] if (piece := _read_piece(text, set())) is not None]:
        return _join(above, blocks, max(blocks, key=lambda piece: len(piece.text)), set())
    return max(rows[0], key=len)


def _find_solution(pieces: list[_Piece], above: _Piece | None, names: set[str]) -> _Piece | None:
    """The last piece that defines one of the names; whole ones go before, then functions, then what lacks nothing."""
    known = _BUILTINS.union(*[piece.bound for piece in pieces], above.bound if above else set())
    able = [piece for piece in pieces if piece.defined & names]

    def rate(at: int) -> tuple[bool, bool, bool, int]:
        piece = able[at]
        return piece.whole, bool(piece.functions & names), piece.open or piece.used <= known, at

    return able[max(range(len(able)), key=rate)] if able else None


def _join(above: _Piece | None, pieces: list[_Piece], solution: _Piece, names: set[str]) -> str:
    """A solution behind the prompt's code and what it needs of the other pieces, the nearest one before it first."""
    at = pieces.index(solution)
    others = [*pieces[:at][::-1], *pieces[at + 1 :]]
    have = solution.bound | _BUILTINS | (above.bound if above else set())
    if above:
        have -= {
            node.name for node in above.tree.body if isinstance(node, _FUNCTIONS) and _is_stub(node)
        } - solution.bound
    helpers: list[str] = []
    missing = sorted((solution.used | names) - have)
    while missing:
        name = missing.pop(0)
        if name in have:
            continue
        have.add(name)
        for piece in others:
            if (node := _find_definition(piece, name)) is not None:
                text = _slice(piece.text, node)
                helpers.insert(0, text)
                missing += sorted(find_global_names(text)[0] - have)
                break
    parts = [above.text if above else "", *helpers, solution.text]
    future, rest = [], []
    for part in parts:
        kept, features = _take_futures(part)
        rest.append(kept)
        future += features
    return "\n\n".join(
        [f"from __future__ import {name}" for name in dict.fromkeys(future)] + [one for one in rest if one]
    )


def _find_definition(piece: _Piece, name: str) -> ast.stmt | None:
    """The last statement at the top of a piece that binds a name for good."""
    for node in reversed(piece.tree.body):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and node.name == name and not _is_stub(node):
            return node
        if isinstance(node, _IMPORTS) and any((one.asname or one.name.split(".")[0]) == name for one in node.names):
            return node
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id == name for target in targets for one in ast.walk(target)):
                return node
    return None


def _slice(text: str, node: ast.stmt) -> str:
    first = min([node.lineno, *[one.lineno for one in getattr(node, "decorator_list", [])]])
    lines = text.split("\n")[first - 1 : node.end_lineno]
    return ast.unparse(node) if "\r" in text or "\f" in text or node.col_offset else "\n".join(lines) + "\n"


def _take_futures(text: str) -> tuple[str, list[str]]:
    """A text without its imports from `__future__`, and their names."""
    if "__future__" not in text or (tree := _parse(text)) is None:
        return text, []
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body = [node for node in tree.body if node not in nodes]
    return (ast.unparse(tree), [one.name for node in nodes for one in node.names]) if nodes else (text, [])


def _read_piece(text: str, names: set[str]) -> _Piece | None:
    """A block as a piece; None where no part of it that defines a name compiles."""
    for whole in (text, textwrap.dedent(text)):
        if (tree := _parse(whole)) is not None:
            return _Piece(whole, tree, True)
    lines = text.split("\n")
    if any(line.lstrip().startswith(">>>") for line in lines):
        text = "\n".join([line.lstrip()[4:] for line in lines if line.lstrip()[:3] in (">>>", "...")] + [""])
        tree = _parse(text)
        return _Piece(text, tree, False) if tree is not None else None
    starts = [at for at, line in enumerate(lines) if line.startswith(_STARTS)]
    for at in list(dict.fromkeys([0, *starts]))[:_MOST_CUTS]:
        cut = _trim("\n".join(lines[at:]), _MOST_CUTS)
        if cut and (tree := _parse(cut)) is not None:
            piece = _Piece(cut, tree, False)
            if piece.defined & names:
                return piece
    return None


def _continue(head: str, text: str, names: set[str]) -> str | None:
    """The prompt's code with a text behind it as the body of what it begins, cut before what is no part of it."""
    body = text.strip("\n")
    for whole in (
        head + text,
        f"{head.rstrip()}\n    {body.lstrip()}\n",
        f"{head.rstrip()}\n{textwrap.indent(body, '    ')}\n",
    ):
        cut = _trim(whole, _MOST_CUTS)
        if len(cut) > len(head.rstrip()) and (tree := _parse(cut)) is not None:
            piece = _Piece(cut, tree, True)
            if not names or piece.defined & names:
                return cut
    return None


def _trim(text: str, cuts: int) -> str:
    """The longest beginning of a text that compiles, of those that end before a line at the margin; "" for none."""
    lines = text.split("\n")
    for _ in range(cuts):
        try:
            compile("\n".join(lines), "<answer>", "exec")
        except SyntaxError as error:
            at = min(error.lineno or 1, len(lines)) - 1
            while at > 0 and (not lines[at] or lines[at][0] in " \t#)]}"):
                at -= 1
            if at == 0:
                return ""
            lines = [*lines[:at], ""]
        except (ValueError, RecursionError, MemoryError):
            return ""
        else:
            return "\n".join(lines)
    return ""


def _parse(text: str) -> ast.Module | None:
    """The tree of a text that compiles, else None."""
    try:
        compile(text, "<answer>", "exec")
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
