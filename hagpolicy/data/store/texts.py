"""The texts of a sweep folder, as a table's `texts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hagpolicy.data.store.cells import View
from hagpolicy.data.store.folder import SweepStore
from hagpolicy.data.store.place import Place
from hagpolicy.data.texts import CellAnswer, ScannedTexts, Texts


@dataclass(frozen=True, eq=False)
class StoredTexts(Texts):
    """The texts of a view of a sweep folder, which is opened whenever some are asked for.

    Attributes:
        place: the folder.
        view: the cells.
        shape: of the table, (n_prompts, n_configs, n_samples).
        rows: int64 (n_prompts,), numbers of the view's prompts.
        columns: int64 (n_configs,), numbers of its configs.
    """

    place: Place
    view: View
    shape: tuple[int, int, int]
    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, place: Place, view: View, samples: int) -> StoredTexts:
        """Those of a whole view, whose table has so many samples."""
        n_prompts, n_configs = len(view.prompts), len(view.space)
        return cls(place, view, (n_prompts, n_configs, samples), np.arange(n_prompts), np.arange(n_configs))

    def take(self, rows: np.ndarray, columns: np.ndarray) -> StoredTexts:
        """See `Texts.take`."""
        shape = len(rows), len(columns), self.shape[2]
        return replace(self, shape=shape, rows=self.rows[rows], columns=self.columns[columns])

    def scan(self) -> Iterator[ScannedTexts]:
        """See `Texts.scan`: the folder is read once, a segment at a time."""
        with SweepStore(self.place) as store:
            records = self._find_records(store).ravel()
            order = np.argsort(records, kind="stable")
            ranked = records[order]
            for _, start, table in store.iterate_cells():
                first, end = np.searchsorted(ranked, [start, start + table.num_rows])
                if first == end:
                    continue
                found = table.select(["text", "finish"]).take(ranked[first:end] - start)
                rows, columns, samples = np.unravel_index(order[first:end], self.shape)
                texts, finishes = (found.column(name).to_pylist() for name in ("text", "finish"))
                yield ScannedTexts(rows, columns, samples, texts, finishes)

    def _find_records(self, store: SweepStore) -> np.ndarray:
        """int64, of `shape`: number of each cell's record in the store, -1 where it is not generated."""
        found = store.cells.find(self.view.keys[row] for row in self.rows.tolist())
        records = np.full((len(self.rows), len(self.view.space), self.shape[2]), -1, dtype=np.int64)
        for slot, (config, sample) in enumerate(self.view.slots):
            if sample < self.shape[2]:
                records[:, config, sample] = found[:, slot]
        return records[:, self.columns]

    def _read(self, where: tuple[np.ndarray, ...]) -> Sequence[CellAnswer | None]:
        prompts, configs, samples = where
        slots = {slot: number for number, slot in enumerate(self.view.slots)}
        keys: list[tuple[str, str]] = []  # key of the cell and its scorer; ("", "") where there is no such cell
        for i, j, k in zip(self.rows[prompts].tolist(), self.columns[configs].tolist(), samples.tolist(), strict=True):
            slot = slots.get((j, k))
            keys.append(("", "") if slot is None else (self.view.keys[i][slot], self.view.scorers[i]))
        with SweepStore(self.place) as store:
            found = {
                key: completion
                for part in store.completions({key for key, _ in keys if key})
                for key, completion in part
            }
            return [
                None
                if (done := found.get(key)) is None
                else CellAnswer(done.text, done.finish, done.tokens, store.find_reason(key, scorer), done.reasoning)
                for key, scorer in keys
            ]
