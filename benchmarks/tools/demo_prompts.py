"""The demo's prompts, its six new ones and the pilots' prompts, of five kinds, made from word lists.

No topic, country, person, pair of numbers or set of words is in two of the three: they are dealt out before prompts
are made of them. `python -m benchmarks.tools.demo_prompts` writes the demo's own into `hagpolicy/assets`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hagpolicy._files import format_jsonl
from hagpolicy.data.prompts import Prompt

ASSETS = Path(__file__).parents[2] / "hagpolicy" / "assets"
DEMO, NEW, PILOT = "demo", "new", "pilot"
# Subjects of each kind that are dealt out to each; of the new ones there are six prompts in all.
EACH = {DEMO: 60, NEW: 2, PILOT: 20}
# Of the demo's own; its lists and records have further subjects of their own.
KINDS_OF_DEMO = {"lists": 100, "json": 80, "facts": 40, "sentences": 40, "sums": 40}
KINDS_OF_NEW = {"lists": 2, "facts": 1, "json": 1, "sentences": 1, "sums": 1}

_TOPICS = """animals|fruits|countries|colours|vegetables|cities|musical instruments|sports|birds|flowers|tools|drinks|
trees|insects|kinds of furniture|pieces of clothing|kitchen utensils|school subjects|jobs|hobbies|kinds of weather|
kinds of cheese|desserts|spices|kinds of fish|farm animals|wild animals|body parts|vehicles|board games|card games|
kinds of shoes|gemstones|metals|planets and stars|rivers|mountains|islands|languages|kinds of bread|breakfast foods|
soups|pizza toppings|salad ingredients|kinds of nuts|berries|herbs|garden tools|things in a bathroom|
things in a kitchen|things in an office|things in a schoolbag|things on a beach|things in a forest|things in a garage|
toys|pets|reptiles|sea animals|dinosaurs|fairy tale characters|kinds of music|dances|film genres|kinds of books|
emotions|good habits|chores|holidays|gifts for a child|rooms of a house|shops in a town|buildings in a city|
parts of a car|parts of a tree|parts of a computer|electronic devices|household appliances|cleaning products|
camping items|winter clothes|summer activities|winter sports|water sports|ball games|martial arts|Olympic sports|
famous scientists|famous painters|inventions|shapes|kitchen appliances|sauces|sandwich fillings"""
_CAPITALS = """France=Paris|Japan=Tokyo|Italy=Rome|Germany=Berlin|Egypt=Cairo|Greece=Athens|Russia=Moscow|
China=Beijing|Cuba=Havana|Peru=Lima|Portugal=Lisbon|Austria=Vienna|Hungary=Budapest|Poland=Warsaw|Sweden=Stockholm|
Norway=Oslo|Denmark=Copenhagen|Finland=Helsinki|Ireland=Dublin|Belgium=Brussels|the Netherlands=Amsterdam|
Turkey=Ankara|Iran=Tehran|Iraq=Baghdad|Israel=Jerusalem|Jordan=Amman|Syria=Damascus|Lebanon=Beirut|India=Delhi|
Pakistan=Islamabad|Bangladesh=Dhaka|Nepal=Kathmandu|Thailand=Bangkok|Vietnam=Hanoi|Indonesia=Jakarta|
Malaysia=Kuala Lumpur|the Philippines=Manila|South Korea=Seoul|North Korea=Pyongyang|Mongolia=Ulaanbaatar|
Australia=Canberra|New Zealand=Wellington|Canada=Ottawa|Mexico=Mexico City|Argentina=Buenos Aires|Chile=Santiago|
Colombia=Bogot|Venezuela=Caracas|Ecuador=Quito|Uruguay=Montevideo|Paraguay=Asunci|Brazil=Bras|Kenya=Nairobi|
Ethiopia=Addis Ababa|Ghana=Accra|Senegal=Dakar|Morocco=Rabat|Tunisia=Tunis|Algeria=Algiers|Libya=Tripoli|
Sudan=Khartoum|Uganda=Kampala|Zambia=Lusaka|Zimbabwe=Harare|Angola=Luanda|Somalia=Mogadishu|Rwanda=Kigali|
Romania=Bucharest|Bulgaria=Sofia|Serbia=Belgrade|Croatia=Zagreb|Slovakia=Bratislava|Slovenia=Ljubljana|
Ukraine=Kyiv|Estonia=Tallinn|Latvia=Riga|Lithuania=Vilnius|Iceland=Reykjav|Albania=Tirana|Cyprus=Nicosia|
Afghanistan=Kabul|Jamaica=Kingston|Haiti=Port-au-Prince|Spain=Madrid"""
_NAMES = """Anna|Ben|Carla|David|Emma|Frank|Grace|Henry|Iris|Jonas|Karin|Leo|Maria|Nina|Oscar|Paula|Quentin|Rosa|
Simon|Tara|Ulrich|Vera|Walter|Xenia|Yusuf|Zoe|Alma|Boris|Clara|Dora|Erik|Fiona|Georg|Hanna|Ivan|Julia|Kevin|Laura|
Martin|Nora|Olga|Peter|Ruth|Stefan|Tina|Victor|Wanda|Amir|Bella|Carlos|Diana|Elias|Farid|Greta|Hugo|Ines|Jack|Kim|
Lena|Mona|Noah|Omar|Petra|Ralph|Sara|Tom|Uma|Vincent|Wendy|Adam|Berta|Colin|Daria|Edgar|Flora|Gina|Hector|Irma|Jana|
Karl|Lydia|Milan|Nadia|Otto"""
# Of the demo alone, which has more prompts of these two kinds.
_MORE_TOPICS = """kinds of pasta|kinds of rice dishes|kinds of cake|kinds of tea|kinds of coffee|kinds of hats|
kinds of bags|kinds of boats|kinds of trains|kinds of bridges|kinds of clouds|kinds of rocks|kinds of snakes|
kinds of monkeys|kinds of dogs|kinds of cats|kinds of bears|kinds of butterflies|kinds of trees in a park|
kinds of houses|things in a hospital|things in a museum|things in a zoo|things in a desert|things in a library|
things in a bakery|things in a supermarket|things in a train station|things in a classroom|things in a toolbox|
things made of wood|things made of glass|things made of paper|things that fly|things that are round|
things that are cold|things that are yellow|reasons to walk|ways to travel|ways to relax"""
_MORE_NAMES = """Abel|Bianca|Cyril|Delia|Emil|Frida|Gustav|Helga|Igor|Judith|Konrad|Luisa|Marco|Nadja|Oliver|Pia|
Robin|Sonja|Theo|Ursula"""
_TOWNS = "Paris|London|Rome|Madrid|Berlin|Vienna|Lisbon|Oslo|Dublin|Prague|Athens|Warsaw"
_WORDS = """table river green stone window paper cloud horse bread silver garden mountain yellow candle winter doctor
train umbrella kitchen robot bird branch camera soup spoon dog rope night fox fence moon nurse flower smile teacher
apple bridge storm letter piano coffee boat island sailor clock tower rain bicycle market basket farmer snow forest
lamp chair baby blanket king castle dragon ship harbor fish lake ball park child kite wind hat rabbit hill road truck
bottle pencil school button shirt mirror ladder roof cat mouse cheese honey bee pocket coin thief police bell church
song guitar stage curtain sugar cake party balloon"""


def make_prompts(split: str) -> tuple[Prompt, ...]:
    """The prompts of a split, kind after kind.

    Args:
        split: `DEMO` (300), `NEW` (6) or `PILOT` (100).
    """
    made = {
        "lists": [_list_things(topic, i) for i, topic in _deal(_TOPICS.split("|"), split)],
        "json": [_write_record(person, i) for i, person in _deal(_people(), split)],
        "facts": [_ask_capital(pair, i) for i, pair in _deal(_CAPITALS.split("|"), split)],
        "sentences": [_use_words(words, i) for i, words in _deal(_word_sets(), split)],
        "sums": [_ask_sum(numbers, i) for i, numbers in _deal(_pairs(), split)],
    }
    if split == DEMO:
        topics = [topic.strip() for topic in _MORE_TOPICS.split("|")]
        made["lists"] += [_list_things(topic, i) for i, topic in enumerate(topics)]
        people = _people(_MORE_NAMES, seed=13)
        made["json"] += [_write_record(person, i) for i, person in enumerate(people)]
    most = {DEMO: KINDS_OF_DEMO, NEW: KINDS_OF_NEW}.get(split, {})
    kept = {kind: rows[: most.get(kind)] for kind, rows in made.items()}
    prefix = "" if split == DEMO else f"{split}-"
    return tuple(
        Prompt(text, reference=reference, task=kind, id=f"{prefix}{kind}-{number:02}")
        for kind, rows in kept.items()
        for number, (text, reference) in enumerate(rows, 1)
    )


def _deal(things: Iterable[Any], split: str) -> list[tuple[int, Any]]:
    """The things of a split, in a random order that is the same each time, numbered from 0."""
    shuffled = sorted({thing.strip() if isinstance(thing, str) else thing for thing in things})
    random.Random(2026).shuffle(shuffled)
    start = sum(EACH[name] for name in list(EACH)[: list(EACH).index(split)])
    dealt = shuffled[start : start + EACH[split]]
    if len(dealt) < EACH[split]:
        raise ValueError(f"{len(shuffled)} are too few for {sum(EACH.values())}")
    return list(enumerate(dealt))


def _list_things(topic: str, i: int) -> tuple[str, Any]:
    wordings = (
        "List 8 different {}.",
        "Name 8 {}, each only once.",
        "Give me a list of 8 {}.",
        "Which 8 {} do you know?",
    )
    return wordings[i % 4].format(topic), 8


def _people(names: str = _NAMES, seed: int = 11) -> list[tuple[str, str, int]]:
    chance = random.Random(seed)
    towns = _TOWNS.split("|")
    return [(name.strip(), chance.choice(towns), chance.randint(20, 69)) for name in names.split("|")]


def _write_record(person: tuple[str, str, int], i: int) -> tuple[str, Any]:
    wordings = (
        'Write a JSON object with the keys "name", "city" and "age" for {0}, who is {2} and lives in {1}.',
        '{0} is {2} years old and lives in {1}. Write this as JSON with the keys "name", "age" and "city".',
        'Turn this into JSON with the keys "name", "city" and "age": {0}, {1}, {2}.',
    )
    return wordings[i % 3].format(*person), ["name", "city", "age"]


def _ask_capital(pair: str, i: int) -> tuple[str, Any]:
    country, _, capital = pair.partition("=")
    wordings = ("What is the capital of {}?", "Which city is the capital of {}?", "Name the capital city of {}.")
    return wordings[i % 3].format(country), [capital]


def _word_sets() -> list[tuple[str, ...]]:
    chance = random.Random(12)
    words = sorted(set(_WORDS.split()))
    sets: list[tuple[str, ...]] = []
    while len(sets) < sum(EACH.values()):
        chance.shuffle(words)
        sets += [tuple(words[at : at + 3]) for at in range(0, len(words) - 2, 3)]
    return sets


def _use_words(words: Sequence[str], i: int) -> tuple[str, Any]:
    wordings = (
        "Write one short sentence with the words {}, {} and {}.",
        "Use the words {}, {} and {} in one sentence.",
        "Make a sentence that contains {}, {} and {}.",
    )
    return wordings[i % 3].format(*words), list(words)


def _pairs() -> list[tuple[int, int]]:
    return [(a, b) for a in range(2, 13) for b in range(2, 10)]


def _ask_sum(numbers: tuple[int, int], i: int) -> tuple[str, Any]:
    a, b = numbers
    wordings = ("What is {} + {}?", "How much is {} plus {}?", "Add {} and {}.")
    return wordings[i % 3].format(a, b), a + b


def main() -> None:
    """Write the demo's prompts and its new ones."""
    for split, name in ((DEMO, "demo_prompts.jsonl"), (NEW, "demo_new_prompts.jsonl")):
        rows = [
            {"id": prompt.id, "task": prompt.task, "prompt": prompt.text, "reference": prompt.reference}
            for prompt in make_prompts(split)
        ]
        (ASSETS / name).write_text(format_jsonl(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
