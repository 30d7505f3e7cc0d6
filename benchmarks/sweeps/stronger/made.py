"""Generated prompts with computed references: sums, small Python programs, lists of things."""

from __future__ import annotations

import random

from hagpolicy import Prompt

NAMES = ("Ada", "Bruno", "Chen", "Dora", "Emil", "Fatma", "Goran", "Hana", "Ivo", "Jana", "Karim", "Lena")
TOPICS = (
    "birds", "trees", "flowers", "rivers", "breakfast foods", "winter sports", "school subjects", "tools",
    "pieces of furniture", "kinds of weather", "parts of the body", "means of transport", "sea animals", "insects",
    "spices", "items of clothing", "hobbies", "jobs", "board games", "desserts", "gemstones", "metals", "languages",
    "dances", "feelings", "shapes", "drinks", "dog breeds", "office supplies", "cheeses", "kitchen appliances",
    "musical instruments", "fruits", "vegetables", "countries in Africa", "cities in Europe", "programming languages",
    "ball games", "nuts", "mountains", "painters", "vehicles", "toys", "kinds of fabric", "reptiles", "mushrooms",
    "kinds of pasta", "camping items", "buildings in a town", "things found on a beach", "soups", "colours", "cars",
    "composers", "deserts", "lakes", "card games", "garden tools", "farm animals", "rooms of a house", "hats",
    "martial arts", "kinds of music", "breeds of cat", "herbs", "kinds of tea", "islands", "school supplies",
)  # fmt: skip
ASKED_LISTS = (
    "List {n} different {topic}.",
    "Name {n} {topic}. Do not repeat any of them.",
    "Which {topic} do you know? Tell me {n}.",
    "I need {n} {topic}, no two the same.",
)


def arithmetic(draw: random.Random, number: int) -> Prompt:
    """A calculation without a story, from a sum of small numbers to four operations."""
    a, b, c, d = draw.randint(12, 99), draw.randint(3, 19), draw.randint(11, 60), draw.randint(2, 9)
    many = [draw.randint(11, 99) for _ in range(draw.randint(5, 8))]
    text, answer = [
        (f"What is {a} + {c}?", a + c),
        (f"How much is {a} minus {b}?", a - b),
        (f"Calculate {a} * {b}.", a * b),
        (f"What is {a} * {d} - {c}?", a * d - c),
        (f"Add up these numbers: {', '.join(map(str, many))}.", sum(many)),
        (f"What is ({a} + {c}) * {d} - {b}?", (a + c) * d - b),
        (f"How many minutes are there in {b} hours and {c} minutes?", b * 60 + c),
        (f"What is {a * 11} + {c * 13} - {b * 7}?", a * 11 + c * 13 - b * 7),
        (f"Compute {a} * {b} + {c} * {d}.", a * b + c * d),
        (f"A number is doubled, then {b} is added and the result is {2 * a + b}. What is the number?", a),
    ][number % 10]
    return Prompt(text, answer, task="arithmetic", id=f"arithmetic-{number:03d}")


def programs(draw: random.Random, number: int) -> Prompt:
    """A Python program of a few lines that prints one whole number."""
    a, b, c, times = draw.randint(2, 9), draw.randint(2, 6), draw.randint(1, 9), draw.randint(3, 5)
    values = [draw.randint(1, 20) for _ in range(draw.randint(5, 7))]
    word = draw.choice(("banana", "committee", "possession", "lantern", "balloon", "attitude", "cinnamon", "parallel"))
    letter = draw.choice(sorted(set(word)))
    source = [
        f"x = {a}\ny = {b}\nprint(x * y + {c})",
        f"total = {c}\nfor i in range({times}):\n    total += i * {a}\nprint(total)",
        f"values = {values}\nprint(sum(v for v in values if v % 2 == 0))",
        f"print('{word}'.count('{letter}'))",
        f"a, b = {a}, {b}\nfor _ in range({times}):\n    a, b = b, a + b\nprint(b)",
        f"values = {values}\nprint(max(values) - min(values))",
        f"x = {a * 17 + c}\nsteps = 0\nwhile x > {b}:\n    x = x // 2\n    steps += 1\nprint(steps)",
        f"values = {values}\nprint(sorted(values)[{min(times, 4) - 1}] + len(values))",
    ][number % 8]
    asked = ("What does this Python program print?", "Which number does this code print?", "What is the output?")
    text = f"{asked[number % 3]}\n\n{source}"
    return Prompt(text, _printed(source), task="programs", id=f"programs-{number:03d}")


def _printed(source: str) -> int:
    """What a program of `programs` prints; they are ours, so running them is safe."""
    printed: list[int] = []
    exec(source, {"print": printed.append})
    return printed[0]


def lists(draw: random.Random, number: int) -> Prompt:
    """A number of different things; no topic twice among the first sixty-odd."""
    wanted, topic = draw.randint(4, 10), TOPICS[number % len(TOPICS)]
    asked = ASKED_LISTS[number % len(ASKED_LISTS)]
    return Prompt(asked.format(n=wanted, topic=topic), wanted, task="lists", id=f"lists-{number:03d}")
