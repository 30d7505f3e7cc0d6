"""The words that prompts are made of: topics of lists, names, verbs, and several wordings of every request.

Wordings differ so that no two prompts of a task are the same sentence with one word changed.
"""

from __future__ import annotations

NAMES = [
    "Amara", "Bjorn", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Imani", "Jonas", "Kaito", "Leila",
    "Marek", "Nadia", "Oscar", "Priya", "Quentin", "Rania", "Stefan", "Talia", "Umar", "Vera", "Wanda", "Xenia",
    "Yusuf", "Zoe", "Bruno", "Clara", "Diego", "Esther", "Felix", "Gina", "Hassan", "Ines", "Jamal", "Karin",
]  # fmt: skip

TOPICS = [
    "fruits", "vegetables", "musical instruments", "farm animals", "wild animals of Africa", "birds", "kinds of fish",
    "insects", "trees", "flowers", "colours", "items of clothing", "kitchen utensils", "pieces of furniture",
    "school subjects", "sports played with a ball", "winter sports", "jobs in a hospital", "jobs in an office",
    "means of transport", "parts of a car", "parts of the human body", "countries in Europe", "countries in Asia",
    "countries in South America", "cities in the United States", "rivers of the world", "mountains", "oceans and seas",
    "planets", "chemical elements", "metals", "gemstones", "languages", "currencies", "famous painters",
    "famous scientists", "composers of classical music", "kinds of dance", "board games", "card games", "desserts",
    "breakfast foods", "soups", "pizza toppings", "spices", "herbs", "nuts", "cheeses", "kinds of bread",
    "drinks without alcohol", "hot drinks", "shapes", "feelings", "good qualities in a friend", "hobbies",
    "things found in a garden", "things found in a bathroom", "things found in a bag", "office supplies", "tools",
    "electrical devices", "computer programs", "programming languages", "types of weather", "natural disasters",
    "dog breeds", "sea animals", "reptiles", "baby animals", "animals that can fly", "things made of wood",
    "things made of glass", "things made of paper", "toys", "kinds of shoes", "kinds of hats", "fabrics",
    "materials for building a house", "rooms of a house", "buildings in a town", "shops", "things to do on a rainy day",
    "things to take on a camping trip", "ways to save water", "ways to stay healthy", "reasons to learn a language",
    "holidays and festivals", "months and days", "musical styles", "film genres", "kinds of books", "superheroes",
    "fairy-tale characters", "Olympic disciplines", "words that rhyme with 'cat'",
]  # fmt: skip
LISTS = (
    "List {n} different {topic}, separated by commas.",
    "Name {n} {topic}. Do not repeat any of them.",
    "Give me {n} {topic}, each one only once.",
    "I need {n} {topic}, no two the same.",
    "Can you think of {n} {topic}? Write them as a numbered list.",
    "Write down {n} {topic}, one per line.",
    "What are {n} {topic}? A plain list is enough.",
    "For a quiz I am collecting {topic}. Please give me {n}.",
)
# Lists to be written in another form: what each is, and its items.
SHELVES = {
    "shopping list": ["milk", "eggs", "flour", "butter", "rice", "beans", "honey", "pasta", "onions", "salt", "tea"],
    "packing list": ["socks", "passport", "towel", "charger", "sunglasses", "jacket", "toothbrush", "map", "camera"],
    "guest list": ["Anna", "Boris", "Carla", "Dennis", "Eva", "Frank", "Gloria", "Henry", "Irene", "Karl", "Lucy"],
    "list of tools": ["hammer", "saw", "drill", "pliers", "ladder", "wrench", "chisel", "file", "level", "axe"],
    "reading list": ["Emma", "Dracula", "Ulysses", "Hamlet", "Walden", "Candide", "Persuasion", "Beloved", "Dune"],
    "list of cities": ["Paris", "Lima", "Cairo", "Oslo", "Tokyo", "Boston", "Delhi", "Quito", "Prague", "Dublin"],
    "list of colours": ["red", "teal", "ivory", "black", "purple", "orange", "silver", "beige", "pink", "olive"],
    "menu": ["soup", "salad", "roast chicken", "risotto", "apple pie", "coffee", "fish stew", "cheese", "sorbet"],
}
REFORMATTING = (
    "Write this {form}:\n{text}",
    "{text}\n\nThis is a {kind}. Write the same items {form}.",
    "Please give me the following {kind} {form}, with nothing added or left out.\n\n{text}",
    "Here is my {kind}:\n{text}\nI would like to have it {form}.",
)
# Of short sentences: who, what they do (now, then, what with), where or when.
SUBJECTS = [
    "The old farmer", "My sister", "Our neighbour", "The young doctor", "Her uncle", "The new teacher", "A tall man",
    "The baker", "My friend", "The tired nurse", "His grandmother", "The little girl", "The captain", "A student",
    *NAMES,
]  # fmt: skip
DEEDS = [
    ("buys", "bought", ["apples", "a hat", "two tickets", "fresh bread", "a lamp"]),
    ("reads", "read", ["a book", "the newspaper", "a long letter", "some poems"]),
    ("plays", "played", ["the violin", "chess", "football", "the piano", "cards"]),
    ("writes", "wrote", ["a story", "a postcard", "an email", "a song"]),
    ("paints", "painted", ["the fence", "a portrait", "a red boat", "the wall"]),
    ("cooks", "cooked", ["soup", "rice and beans", "dinner", "a big meal"]),
    ("finds", "found", ["a coin", "an old map", "the keys", "a small cat"]),
    ("cleans", "cleaned", ["the kitchen", "the windows", "the car", "a bicycle"]),
    ("drinks", "drank", ["green tea", "a glass of milk", "coffee", "cold water"]),
    ("opens", "opened", ["the door", "a shop", "the box", "a window"]),
    ("sells", "sold", ["flowers", "used books", "cheese", "wooden toys"]),
    ("watches", "watched", ["a film", "the birds", "the match", "the stars"]),
    ("carries", "carried", ["a heavy bag", "the basket", "a ladder", "the chairs"]),
    ("visits", "visited", ["a museum", "the old castle", "her aunt", "the zoo"]),
]
PLACES = [
    "in Lisbon", "on Friday", "at school", "in the garden", "near the river", "every morning", "in the kitchen",
    "at the market", "after lunch", "on the train", "in Boston", "with Tom", "at night", "by the lake", "in winter",
]  # fmt: skip
PAST = (
    "Write in the past tense: {text}",
    "Put this sentence into the past tense.\n{text}",
    "{text}\n\nWrite this sentence in the past tense.",
    'Change the sentence "{text}" to the past tense.',
)
REPLACING = (
    'Replace "{old}" with "{new}": {text}',
    'Rewrite the sentence with "{new}" in place of "{old}".\n{text}',
    '{text}\n\nWrite this sentence again, but say "{new}" where it says "{old}".',
    'In the following sentence, change "{old}" to "{new}".\nSentence: {text}',
)
SENTENCES = (
    "Write one sentence that uses all of these words: {words}.",
    "Use the words {words} in a single sentence.",
    "Make a sentence about an everyday scene with these words: {words}.",
    "Here are some words: {words}. Compose a natural sentence in which all of them appear.",
)
SUMS = (
    "{body}. {question}",
    "{body}. {question} Answer with the number.",
    "Solve this problem. {body}. {question}",
    "{body}.\n\nQuestion: {question}\nAnswer:",
)
CHOOSING = (
    "{question}\n{options}\nWhich option is correct?",
    "Question: {question}\nOptions:\n{options}\nAnswer with the letter of the right option.",
    "Choose the right answer.\n\n{question}\n\n{options}",
    "{question} Pick one of these:\n{options}",
)
RESTAURANTS = (
    "Write one or two sentences that describe this place.\n{slots}",
    "Turn these facts into a short text for a guide book: {slots}",
    "Describe the following restaurant and mention every detail.\n{slots}",
    "Data: {slots}\nPut all of the data into fluent English.",
)
PIG_LATIN = (
    "In Pig Latin, consonants before the first vowel move to the end and 'ay' is added: 'big dog' is 'igbay ogday'. "
    "A word that starts with a vowel gets 'way'. Translate into Pig Latin: {text}",
    "Examples of Pig Latin: 'green tree' -> 'eengray eetray', 'old man' -> 'oldway anmay'. Now translate '{text}'.",
    "Translate English to Pig Latin.\nbig dog = igbay ogday\nold man = oldway anmay\ngreen tree = eengray eetray\n"
    "{text} =",
    "How do you say '{text}' in Pig Latin? Remember: 'milk cup' becomes 'ilkmay upcay' and 'egg' becomes 'eggway'.",
)
ADJECTIVES = [
    "small", "happy", "red", "quiet", "warm", "strange", "easy", "open", "young", "bright", "cold", "fresh", "angry",
    "blue", "proud", "dark", "ugly", "noble", "simple", "tall", "lazy", "empty", "kind", "sweet",
]  # fmt: skip
NOUNS = [
    "cat", "house", "river", "apple", "train", "school", "flower", "uncle", "window", "bread", "garden", "night",
    "song", "tiger", "ocean", "paper", "snake", "friend", "table", "island", "mouse", "story", "glass", "camel",
]  # fmt: skip
VERBS = ["sleeps", "runs", "falls", "waits", "opens", "shines", "grows", "turns", "answers", "sings", "moves", "stops"]
COIN_STARTS = (
    "A coin is heads up.", "There is a coin on the table that shows heads.", "A coin lies heads up on the floor.",
    "We start with a coin that is heads up.",
)  # fmt: skip
COIN_FLIPS = ("{name} flips the coin.", "Then {name} turns it over.", "{name} flips it.", "{name} reverses the coin.")
COIN_RESTS = (
    "{name} does not flip the coin.", "{name} leaves it as it is.", "Then {name} looks at it and does not touch it.",
    "{name} does not turn it over.",
)  # fmt: skip
COIN_ENDS = (
    "Is the coin still heads up?", "Is it heads up now? Answer yes or no.", "Does the coin show heads in the end?",
    "Yes or no: is the coin heads up?",
)  # fmt: skip
