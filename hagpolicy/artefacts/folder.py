"""The folder of an artefact: JSON and safetensors, with a record of what it was made from; nothing in it is run.

    artefact.json       the record: format version, field, how it was made, salted digests of its prompts
    ...                 what its kind consists of (`KINDS`), such as PEFT's own files of an adapter

An artefact's digest is that of the files that its kind consists of. The record, and whatever else lies there, is no
part of it: the same weights with another record give the same answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hagpolicy._digest import digest, digest_file
from hagpolicy._files import format_json, parse_json, read_regular, write_text
from hagpolicy._folders import new_folder
from hagpolicy._names import suggest
from hagpolicy.config.fields import SPECS, pin_name
from hagpolicy.data.origins import Origin
from hagpolicy.data.prompts import Prompt
from hagpolicy.errors import InvalidInput

__all__ = [
    "KINDS",
    "RECORD",
    "Artefact",
    "check_new",
    "load_artefacts",
    "new_artefact",
    "open_artefact",
    "write_record",
]

RECORD = "artefact.json"
FORMAT = 1
_LARGEST_RECORD = 256 << 20

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "adapter": ("adapter_config.json", "adapter_model.safetensors"),
        "soft_prefix": ("soft_prefix.json", "soft_prefix.safetensors"),
        "reference": ("references.json", "references.safetensors"),
        "draft_source": ("drafts.json", "drafts.safetensors"),
    }
)
"""The files that an artefact consists of, by the field that names it: all of them must be there."""


@dataclass(frozen=True)
class Artefact:
    """What an engine is given beside the model: a folder, or what a server has.

    Attributes:
        kind: the field of the configs that name it, such as "adapter".
        name: by which they do.
        path: of the folder; None where there is none here.
        digest: of its files, else of what is known of it; 32 hex digits.
        origin: the prompts it was made from; None where it has no record of them.
        about: what the record says of how it was made, JSON values.
    """

    kind: str
    name: str
    path: Path | None
    digest: str
    origin: Origin | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pin(self) -> str:
        """Its name with its digest, as in a config that was swept."""
        return pin_name(self.name, self.digest)

    @property
    def folder(self) -> Path:
        """The folder with its files.

        Raises:
            InvalidInput: there is none here.
        """
        if self.path is None:
            raise InvalidInput(f"artifacts[{self.kind!r}][{self.name!r}]", "a folder", "a name that a server has")
        return self.path


def load_artefacts(given: Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Artefact]]:
    """The artefacts that an engine is given, by field and name.

    Args:
        given: such as {"adapter": {"sql": "path/of/folder"}}; None: none.

    Raises:
        InvalidInput: a field that names no artefacts, a bad name, or a folder that holds none of its kind.
    """
    if given is None:
        return {}
    form = "a mapping such as {'adapter': {'sql': 'path'}}"
    if not isinstance(given, Mapping):
        raise InvalidInput("artifacts", form, given)
    found: dict[str, dict[str, Artefact]] = {}
    for kind, named in given.items():
        if kind not in KINDS:
            do = suggest(str(kind), tuple(KINDS))
            raise InvalidInput("artifacts", f"{form}, of the fields {', '.join(KINDS)}", kind, do)
        if not isinstance(named, Mapping):
            raise InvalidInput(f"artifacts[{kind!r}]", "a mapping of names to folders", named)
        found[kind] = {name: open_artefact(kind, name, path) for name, path in named.items()}
    return found


def open_artefact(kind: str, name: str, path: str | Path) -> Artefact:
    """The artefact in a folder.

    Args:
        kind: the field that names it.
        name: by which configs name it.
        path: of the folder.

    Raises:
        InvalidInput: a bad name, a folder that lacks a file of its kind, or a record that cannot be read.
    """
    where = f"artifacts[{kind!r}][{name!r}]"
    if not name or "@" in str(SPECS[kind].check(where, name)):
        raise InvalidInput(where, SPECS[kind].expected, name)
    if not isinstance(path, str | Path):
        raise InvalidInput(where, "the path of a folder", path)
    folder = Path(path).expanduser()
    if missing := [file for file in KINDS[kind] if not (folder / file).is_file()]:
        got = f"{folder}, which " + (f"lacks {', '.join(missing)}" if folder.is_dir() else "is no folder")
        raise InvalidInput(where, f"a folder with {', '.join(KINDS[kind])}", got, _advise(folder))
    try:
        files = {file: digest_file(folder / file) for file in KINDS[kind]}
        made = Artefact(kind, name, folder, digest(files))
        if not (folder / RECORD).is_file():
            return made
        record = parse_json(read_regular(folder / RECORD, _LARGEST_RECORD))
        if record["format_version"] != FORMAT or record["field"] != kind:
            raise ValueError(f"it is of format {record['format_version']!r} for {record['field']!r}")
        origin = None
        if record["salt"]:
            origin = Origin.from_json({"field": kind, "pin": made.pin, **record})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(where, f"a folder whose {RECORD} can be read", f"{type(error).__name__}: {error}") from error
    return Artefact(kind, name, folder, made.digest, origin, dict(record.get("about", {})))


def check_new(folder: str | Path) -> Path:
    """The folder of an artefact to be made, where nothing lies yet.

    Raises:
        InvalidInput: something does, or it is no path.
    """
    if not isinstance(folder, str | Path) or Path(folder).exists():
        raise InvalidInput("folder", "the path of a folder that is not there yet", folder)
    return Path(folder)


@contextlib.contextmanager
def new_artefact(
    folder: Path, kind: str, prompts: Iterable[Prompt], about: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """A folder to be filled with an artefact's files, which gets its name with its record, whole or not at all.

    Args:
        folder: the name, of `check_new`.
        kind: the field that names the artefact.
        prompts: it was made from.
        about: how, JSON values.

    Raises:
        InvalidInput: something else took the name meanwhile.
        OSError: it cannot be written.
    """
    with new_folder(folder) as made:
        yield made
        write_record(made, kind, prompts, about)
    if not (folder / RECORD).is_file():
        raise InvalidInput("folder", "a name that is free", f"{folder}, which something else took meanwhile")


def write_record(folder: Path, kind: str, prompts: Iterable[Prompt], about: Mapping[str, Any] | None = None) -> None:
    """Write the record of an artefact into its folder.

    Args:
        folder: which holds its files.
        kind: the field that names it.
        prompts: it was made from; none: that is not known.
        about: how, JSON values.
    """
    if kind not in KINDS:
        raise InvalidInput("kind", f"one of {', '.join(KINDS)}", kind)
    origin = Origin.of(kind, "", prompts)
    salt = origin.salt if origin.digests else ""
    values = {"salt": salt, "digests": sorted(origin.digests), "about": dict(about or {})}
    write_text(folder / RECORD, format_json({"format_version": FORMAT, "field": kind, **values}))


def _advise(folder: Path) -> str:
    """What to do about files of other formats."""
    if any((folder / file).exists() for file in ("adapter_model.bin", "pytorch_model.bin")):
        return "Save it with safetensors: files of pickles run code when they are loaded."
    return ""
