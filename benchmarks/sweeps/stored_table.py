"""Tables of sweeps that are stored without their prompts, which belong to public data sets.

Of the sweep folder (`hagpolicy.data.store.folder`) only `sweep.json` and `cells/` are committed: a cell names its
prompt by a digest, and holds the answer, its reward, tokens and seconds. The prompts are made again from `--data`
and meet their cells by that digest; `prompts/` and `plans/` are left out, and the next `sweep` writes them anew
without generating what is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hagpolicy import DecodingConfig, DecodingSpace, Prompt, SweepTable, load_table
from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.loading import build_table
from hagpolicy.errors import StoreError
from hagpolicy.scorers.registry import assign_scorers


def restored_table(folder: Path, prompts: Iterable[Prompt]) -> SweepTable:
    """The table of a sweep that is stored with its plans, but without its prompts, which are put back into the folder.

    Raises:
        StoreError: no sweep folder, or prompts that were not swept.
    """
    (folder / "prompts").mkdir(exist_ok=True)  # no repository keeps an empty folder
    with SweepStore(folder, write=True) as store:
        store.add_prompts(prompts)
    return load_table(folder)


def stored_table(
    folder: Path,
    prompts: Iterable[Prompt],
    space: DecodingSpace,
    scorer: Any,
    *,
    default: DecodingConfig | None,
    samples: int,
    max_tokens: int,
    seed: int,
) -> SweepTable:
    """The table of a sweep from its stored cells and prompts that are given. Reads only.

    The rewards are those that were stored: where a scorer has another version today, that of its latest stored one.

    Args:
        folder: holds `sweep.json` and `cells/`.
        prompts: the prompts as they were swept; one that differs in any field has no cells.
        space, scorer, samples, max_tokens, seed: as they were given to `sweep`.
        default: the engine's default, which `sweep` adds to the space where it is missing; None: unknown.

    Raises:
        StoreError: no sweep folder, or it has no cell of these prompts.
    """
    known = tuple(prompts)
    index = None
    if default is not None:
        space, index = space.with_config(default)
    with SweepStore(folder) as store:
        versions = {identity.partition("@")[0]: identity for identity in store.scores}
        current = [one.stored_name for one in assign_scorers(scorer, known)]
        view = View(
            prompts=known,
            space=space,
            samples=samples,
            max_tokens=max_tokens,
            seed=seed,
            default=index,
            scorers=tuple(
                name if name in store.scores else versions.get(name.partition("@")[0], name) for name in current
            ),
        )
        if not (store.cells.find(view.keys) >= 0).any():
            raise StoreError(
                f"{folder} holds no cell of the {len(known)} prompts given. Is the data the version named in "
                "benchmarks/README.md?"
            )
        return build_table(store, view)
