"""What runs today, as the reference of a sweep: named by the user, read from the engine, or the bare request."""

import pytest

from hagpolicy import DecodingConfig, DecodingSpace, SimulatedEngine, load_table, sweep
from hagpolicy.cli.options import parse_default
from hagpolicy.errors import InvalidInput, UnsupportedSetting
from hagpolicy.sweeping.forecast.preview import preview

SPACE = DecodingSpace.grid(temperature=[0.0, 0.7])
UNSET = DecodingConfig(unset=True)


def run(out, default, engine=None, **options):
    engine = engine or SimulatedEngine(seed=1)
    given = engine, engine.prompts(5), options.pop("space", SPACE), engine.scorer
    return sweep(*given, samples=2, max_tokens=8, out=out, progress=False, default=default, **options)


@pytest.mark.parametrize(
    ("given", "config", "index"),
    [
        ({"temperature": 0.7}, DecodingConfig(temperature=0.7), 1),
        (DecodingConfig(temperature=0.0, top_p=0.5), DecodingConfig(temperature=0.0), 0),  # the same text
        ({"temperature": 0.7, "top_p": 0.9}, DecodingConfig(temperature=0.7, top_p=0.9), 2),
        ("unset", UNSET, 2),
        (None, DecodingConfig(), 2),
    ],
)
def test_it_is_marked_and_joins_the_space_where_it_is_not_in_it(tmp_path, given, config, index):
    table = run(tmp_path, given)
    assert (table.default, table.space[table.default]) == (index, config)
    assert (table.counts[:, index] == (1 if config.deterministic else 2)).all()
    again = load_table(tmp_path)
    assert (again.default, again.space) == (index, table.space)
    # Another view of the folder keeps it, wherever it then stands.
    turned = load_table(tmp_path, space=[*reversed(list(table.space))])
    assert turned.space[turned.default] == config
    assert load_table(tmp_path, prompts=table.prompts[:2]).default == index


def test_the_latest_sweep_says_what_runs_today_and_generates_what_is_new(tmp_path):
    first = run(tmp_path, "unset")
    second = run(tmp_path, {"temperature": 0.7})
    assert (first.space[first.default], second.space[second.default]) == (UNSET, SPACE[1])
    assert len(second.space) == len(SPACE)
    assert load_table(tmp_path).default == 1


def test_a_strategy_keeps_it(tmp_path):
    space = DecodingSpace.grid(temperature=[0.0, 0.3, 0.5, 0.7, 0.9, 1.1])
    table = run(tmp_path, "unset", space=space, strategy="racing")
    assert table.space[table.default] == UNSET


def test_what_is_no_default_is_refused_before_a_token(tmp_path):
    engine = SimulatedEngine(seed=1, lacks=["top_k"])
    with pytest.raises(UnsupportedSetting, match=r"default: .*simulated:1.*top_k=5, of which it has no top_k"):
        run(tmp_path, {"top_k": 5}, engine)
    for bad in ("greedy", 3, [{"temperature": 1}], {"temprature": 1}, {"temperature": -1}):
        with pytest.raises(InvalidInput, match=r"default|temperature"):
            run(tmp_path, bad)
    assert not list(tmp_path.iterdir())


def test_a_preview_counts_it(tmp_path):
    engine = SimulatedEngine(seed=1)
    given = engine, engine.prompts(5), SPACE, engine.scorer
    counts = {
        name: preview(*given, samples=2, max_tokens=8, out=tmp_path, default=default).to_generate
        for name, default in {"in it": {"temperature": 0.7}, "unset": "unset"}.items()
    }
    assert counts == {"in it": 5 * 3, "unset": 5 * 5}
    with pytest.raises(InvalidInput):
        preview(*given, out=tmp_path, default="greedy")


def test_the_command_line_takes_pairs_and_json():
    assert parse_default(None) is None
    assert parse_default("unset") == "unset"
    for text in ('{"temperature": 0.7, "top_p": 0.9}', "temperature=0.7,top_p=0.9", "temperature=0.7 top_p=0.9"):
        assert parse_default(text) == {"temperature": 0.7, "top_p": 0.9}
    for bad in ("greedy", "{temperature: 1}", ""):
        with pytest.raises(InvalidInput, match="--default"):
            parse_default(bad)
