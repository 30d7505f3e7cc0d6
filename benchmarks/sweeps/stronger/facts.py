"""Short questions whose answer is a word: a longer answer costs tokens and earns nothing."""

from __future__ import annotations

from hagpolicy import Prompt

# Pattern of the question -> what it is asked of -> the accepted answer, or several separated by "/".
QUESTIONS: dict[str, dict[str, str]] = {
    "What is the capital of {}?": {
        "Italy": "Rome", "Norway": "Oslo", "Egypt": "Cairo", "Poland": "Warsaw", "Kenya": "Nairobi", "Peru": "Lima",
        "Nepal": "Kathmandu", "Ghana": "Accra", "Latvia": "Riga", "Mongolia": "Ulaanbaatar/Ulan Bator",
        "Slovenia": "Ljubljana", "Sri Lanka": "Colombo/Sri Jayawardenepura Kotte", "Malawi": "Lilongwe", "Fiji": "Suva",
    },
    "Which city is the seat of government of {}?": {
        "Portugal": "Lisbon", "Iceland": "Reykjavik/Reykjavík", "Turkey": "Ankara", "Australia": "Canberra",
        "Canada": "Ottawa", "Pakistan": "Islamabad", "Senegal": "Dakar", "Uruguay": "Montevideo", "Bulgaria": "Sofia",
        "Jordan": "Amman", "Zambia": "Lusaka", "Estonia": "Tallinn",
    },
    "What is the chemical symbol of {}?": {
        "gold": "Au", "iron": "Fe", "sodium": "Na", "silver": "Ag", "lead": "Pb", "tin": "Sn", "mercury": "Hg",
        "potassium": "K", "tungsten": "W", "copper": "Cu", "zinc": "Zn", "helium": "He",
    },
    "Who wrote {}?": {
        "Hamlet": "Shakespeare", "War and Peace": "Tolstoy", "The Trial": "Kafka", "Emma": "Austen",
        "Moby-Dick": "Melville", "Don Quixote": "Cervantes", "Faust": "Goethe", "Ulysses": "Joyce",
        "Les Misérables": "Hugo", "The Odyssey": "Homer", "Oliver Twist": "Dickens", "Animal Farm": "Orwell",
    },
    "What is the opposite of the word \"{}\"?": {
        "narrow": "wide/broad", "ancient": "modern/new", "shallow": "deep", "arrive": "depart/leave",
        "generous": "stingy/selfish/miserly/mean/greedy", "expand": "contract/shrink", "rough": "smooth",
        "victory": "defeat/loss", "scarce": "abundant/plentiful", "accept": "reject/refuse/decline",
        "transparent": "opaque", "temporary": "permanent",
    },
    "What is the plural of \"{}\"?": {
        "mouse": "mice", "goose": "geese", "ox": "oxen", "knife": "knives", "cactus": "cacti/cactuses",
        "tooth": "teeth", "child": "children", "leaf": "leaves", "analysis": "analyses", "thief": "thieves",
    },
    # Switzerland's and Thailand's were the pilot's, which showed that some answer with the code.
    "Which currency is used in {}?": {
        "Japan": "yen/JPY", "India": "rupee/INR", "Brazil": "real/BRL", "Switzerland": "franc", "Thailand": "baht",
        "Israel": "shekel/ILS", "Vietnam": "dong/VND", "Hungary": "forint/HUF", "Nigeria": "naira/NGN",
        "Poland": "zloty/złoty/PLN",
    },
    "What is the German word for \"{}\"?": {
        "house": "Haus", "bread": "Brot", "water": "Wasser", "tree": "Baum", "dog": "Hund", "book": "Buch",
        "window": "Fenster", "bird": "Vogel", "spoon": "Löffel", "butterfly": "Schmetterling",
    },
    "What is the past tense of the verb \"{}\"?": {
        "go": "went", "bring": "brought", "swim": "swam", "freeze": "froze", "teach": "taught", "choose": "chose",
        "fly": "flew", "seek": "sought", "weave": "wove/weaved", "bind": "bound",
    },
    "On which continent is {}?": {
        "Kenya": "Africa", "Bolivia": "South America", "Laos": "Asia", "Croatia": "Europe", "Honduras": "North America",
        "Tunisia": "Africa", "Bhutan": "Asia", "Guyana": "South America", "Belarus": "Europe", "Chad": "Africa",
    },
    "What do you call {}?": {
        "a baby cat": "kitten", "a baby sheep": "lamb", "a female horse": "mare", "a doctor for animals":
        "veterinarian/vet", "a person who makes bread": "baker", "the study of stars": "astronomy",
        "a place where bees are kept": "apiary/hive/beehive", "a shape with six sides": "hexagon",
        "frozen water": "ice", "a word that means the same as another": "synonym",
    },
}  # fmt: skip


def all_facts() -> list[Prompt]:
    """Every question once, in the order of the table; those of one pattern and thing have the id `facts-N`."""
    made: list[Prompt] = []
    for pattern, answers in QUESTIONS.items():
        for thing, answer in answers.items():
            number = len(made)
            made.append(Prompt(pattern.format(thing), [answer.split("/")], task="facts", id=f"facts-{number:03d}"))
    return made
