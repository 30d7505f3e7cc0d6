"""A table kept as one file is the same table, or an error."""

import io
import json
import random

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from hagpolicy import DecodingConfig, InvalidInput, SimulatedEngine, StoreError, SweepTable, load_table, sweep
from hagpolicy.data.parquet_digest import add_digest
from tests.support.tables import PROMPTS, SPACE, assert_equal, make_full


@pytest.mark.parametrize(
    "table", [make_full(), make_full().take(np.array([2, 0])), make_full().take(np.zeros(5, bool))]
)
def test_a_saved_table_is_read_back_equal(table, tmp_path):
    path = table.save(tmp_path / "new" / "kept.parquet")
    for read in (load_table(path), SweepTable.from_saved(str(path))):
        assert_equal(read, table)
        assert read.digest == table.digest
    assert load_table(table.save(path)).digest == table.digest  # replaced


def test_a_table_of_arrays_alone_and_a_swept_one_are_kept(tmp_path):
    plain = SweepTable.from_arrays(["a", "a"], SPACE, np.zeros((2, 4)))
    assert_equal(load_table(plain.save(tmp_path / "plain")), plain)
    engine = SimulatedEngine(0)
    swept = sweep(engine, engine.prompts(4), SPACE[:2], engine.scorer, samples=2, out=tmp_path / "s", progress=False)
    kept = load_table(swept.save(tmp_path / "swept.parquet"))
    assert kept.texts is None
    assert_equal(kept, swept, but=["texts"])


def test_prompts_and_space_of_a_file_are_chosen(tmp_path):
    table = make_full()
    path = table.save(tmp_path / "t.parquet")
    part = load_table(path, prompts=[PROMPTS[4], PROMPTS[0]], space=[SPACE[2]])
    np.testing.assert_array_equal(part.rewards, table.rewards[[4, 0]][:, [2]])
    assert_equal(load_table(path, all_prompts=True), table)
    with pytest.raises(InvalidInput, match="1 that are not, the first six"):
        load_table(path, prompts=["six", PROMPTS[0]])
    with pytest.raises(InvalidInput, match="sweep with every config"):
        load_table(path, space=[DecodingConfig(top_k=3)])
    for options in ({"samples": 1}, {"max_tokens": 64}, {"scorer": "chrf"}):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            load_table(path, **options)


def test_any_flipped_bit_is_noticed_before_anything_is_decoded(tmp_path, monkeypatch):
    path = make_full().save(tmp_path / "t.parquet")
    data = path.read_bytes()
    monkeypatch.setattr(pyarrow.parquet, "ParquetFile", lambda *_: pytest.fail("decoded"))
    draw = random.Random(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[draw.randrange(4, len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"digest"):
            load_table(path)
    for end in (4, 20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(StoreError, match=r"t\.parquet"):
            load_table(path)


def rewrite(path, change, **options):
    """The file with its Arrow table changed and a digest that is right."""
    table = change(pyarrow.parquet.read_table(path))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, **{"use_dictionary": False, **options})
    path.write_bytes(add_digest(buffer.getvalue()))


def make_lists(rows):
    return pyarrow.array(rows, pyarrow.large_list(pyarrow.float64()))


def head(**changes):
    def change(table):
        values = {**json.loads(table.schema.metadata[b"hagpolicy.table"]), **changes}
        return table.replace_schema_metadata({b"hagpolicy.table": json.dumps(values).encode()})

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (head(format_version=2), "format 2"),
        (head(more=1), "more"),
        (head(samples=2), "2 samples"),
        (head(samples=-3), "samples"),
        (head(space=[{"temperature": 0.0}]), "1 configs"),
        (head(space=[{"temperatur": 0.0}]), "temperatur"),
        (head(default=9), "default"),
        (head(common="x"), "cannot be used"),
        (head(looks=[{"prompts": 1}]), "cannot be used"),
        (head(fingerprint=3), "another kind"),
        (lambda table: table.replace_schema_metadata({}), "another Parquet file"),
        (lambda table: table.drop_columns(["reward"]), "columns"),
        (lambda table: table.append_column("more", table["group"]), "columns"),
        (lambda table: table.set_column(2, "reward", pyarrow.array([[0.5] * 12] * 5)), "columns"),
        (lambda table: table.slice(0, 0).append_column("x", pyarrow.array([], pyarrow.int64())), "columns"),
        (lambda table: table.set_column(0, "prompt", pyarrow.array(["{}"] * len(table))), "prompt"),
        (lambda table: table.set_column(1, "group", pyarrow.array(range(len(table)))), "groups"),
        (lambda table: table.set_column(1, "group", pyarrow.array([None] * len(table), pyarrow.int64())), "used"),
        (lambda table: table.set_column(2, "reward", make_lists([[2.0] * 12] * len(table))), "reward"),
        (lambda table: table.set_column(2, "reward", make_lists([[0.5] * 12] * 4 + [None])), "samples"),
        (lambda table: table.set_column(2, "reward", make_lists([[0.5] * 12] * 4 + [[0.5] * 11])), "samples"),
    ],
)
def test_what_is_no_saved_table_is_refused_whatever_its_digest_says(tmp_path, change, word):
    path = make_full().save(tmp_path / "t.parquet")
    rewrite(path, change)
    with pytest.raises(StoreError, match=word):
        load_table(path)


def test_a_file_that_unpacks_without_bound_is_refused(tmp_path):
    path = make_full().save(tmp_path / "t.parquet")
    rewrite(path, lambda table: table, use_dictionary=True)
    with pytest.raises(StoreError, match="dictionaries"):
        load_table(path)
    long = lambda table: table.set_column(0, "prompt", pyarrow.array(["a" * (60 << 20)] * len(table)))  # noqa: E731
    rewrite(path, long, compression="zstd")
    assert path.stat().st_size < 1 << 18
    with pytest.raises(StoreError, match="unpacks to more"):
        load_table(path)


def test_another_file_is_neither_replaced_nor_read(tmp_path):
    other = tmp_path / "mine.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), other)
    before = other.read_bytes()
    with pytest.raises(InvalidInput, match="Move it away"):
        make_full().save(other)
    assert other.read_bytes() == before
    with pytest.raises(StoreError, match="no digest"):
        load_table(other)
    with pytest.raises(StoreError, match="cannot read the table"):
        load_table(tmp_path / "none.parquet")
    with pytest.raises(InvalidInput, match="folder"):
        make_full().save(tmp_path)


def test_a_row_a_cell_in_pandas():
    table = make_full()
    frame = table.to_pandas()
    assert list(frame) == [
        *("prompt", "id", "task", "group", "config", "temperature", "hint", "sample"),
        *("reward", "tokens", "seconds", "answer"),
    ]
    assert len(frame) == table.rewards.size
    means = frame.groupby(["prompt", "config"]).reward.mean().unstack().loc[[p.digest for p in table.prompts]]
    np.testing.assert_allclose(means.to_numpy(), table.means)
    assert (frame.hint == "").sum() == len(frame) / 2
    small = SweepTable.from_arrays(["a"], SPACE[:1], [[1.0]]).to_pandas()
    assert small.columns.tolist() == ["prompt", "id", "task", "group", "config", "sample", "reward"]
    assert len(table.take(np.zeros(5, bool)).to_pandas()) == 0
