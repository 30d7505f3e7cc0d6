"""Turns of chats as people write them, one a line: what claims about chats are measured on, and nothing learns from.

`FOLLOW_UPS` mean nothing without what was said before; `SHORT_REQUESTS` are short and say all that is needed.
`EARLIER` are exchanges about something else, `SYSTEM_PROMPTS` those of services of other trades.
"""

from __future__ import annotations

FOLLOW_UPS = """
shorter, please
and the second one?
yes
in German
why?
Could you make it a bit more formal?
That's not what I asked for.
no, the other one
What about the third?
ok do it
Can you elaborate on the last point?
now as a table
Now do the same thing in Rust.
hmm, that still fails
try again
Are you sure about that?
explain that like I'm five
Too long. Cut it in half.
how does it work?
Who was his wife?
and then?
go on
Thanks! Now translate it into Spanish.
Please remove the second paragraph.
I prefer the first version
Which of those is cheapest?
what would it cost?
give me two more
Without the jargon, please.
Could you double-check the last step?
Replace the name with Anna.
is that still true today?
And in winter?
more examples
Make the ending happier.
Can they be combined?
wait, why did you divide by two?
ok, and how long does that take?
That doesn't compile.
What did he do after that?
Use bullet points instead.
Not that one, the blue one.
So which should I pick?
rewrite it without the letter e
good, continue
same but for dogs
I don't get the last sentence.
Put it all in one paragraph.
can you say that more politely
why not?
what's the alternative?
and if it rains?
Only the first three, please.
Say it again in simpler words.
Could you add a title?
Yes, please send me the full list.
how many of them are there?
Do you have a source for that?
Great, now make it rhyme.
when did that happen?
keep the tone but make it shorter
it still sounds too stiff
Let's go with option B.
what do you mean by that?
the last one again please
And what happens to the rest?
can you fix that?
Hm, I meant the one before.
Is there a faster way to do this?
ok but what about the tax?
Turn this into an email.
now with comments
make it 50 words
You forgot the last one.
How would that look in practice?
tell me more about the second one
Nope, that's wrong
undo that
Could you rank them?
Does that also apply to me?
Which one is better?
why is it so expensive?
shorten the intro
a bit less enthusiastic please
can you do that for 2023 as well
How do you know?
What else?
And for children?
Who said that?
And its population?
please expand on this
I'd like it warmer and more personal.
can we skip that step?
Sorry, I meant the left one.
leave out the numbers
and how do I install it?
what's the downside?
Show me the code for that.
sounds good, next
Now the other way round.
One more, but darker.
could you be more specific?
Change her name to Lucy.
what if it doesn't work?
more like the first one
Mach das bitte kürzer.
Und auf Englisch?
und warum?
Kannst du das noch einmal erklären?
Nein, den anderen.
Plus court, s'il te plaît.
et la deuxième ?
pourquoi ?
Más corto, por favor.
¿y el segundo?
En inglés, por favor.
ok, what's next?
Did they ever find him?
that was helpful, thanks
Repeat the last part
""".strip().splitlines()

SHORT_REQUESTS = """
Translate 'cat' to French
What is 17*23?
Who wrote Faust?
What's the capital of Mongolia?
Name three noble gases.
How tall is the Eiffel Tower?
Write a limerick about tax law.
Convert 5 miles to kilometers
Spell "accommodate".
Give me a recipe for pancakes.
Is 91 a prime number?
When did World War II end?
Explain recursion.
Define entropy.
Write a SQL query that lists all customers from Berlin.
How do I boil an egg?
Suggest a name for a black cat
What does HTTP 404 mean?
Write a Python function to reverse a string
Tell me a joke about programmers.
How many days are in a leap year?
What is the boiling point of ethanol?
Difference between TCP and UDP?
Synonyms for happy
Summarize the plot of Hamlet in two sentences.
What time zone is Tokyo in?
Who painted the Mona Lisa?
List the planets in order.
Square root of 144?
How do I delete a git branch?
Write a birthday message for my grandmother.
Best way to remove red wine stains?
What causes thunder?
Are tomatoes fruits?
How old is the universe?
Draft a resignation letter.
What is the plural of octopus?
Explain the Pythagorean theorem to a child.
Solve 3x + 7 = 22.
What's a good substitute for buttermilk?
How do vaccines work?
Plan a weekend in Lisbon.
Give me five synonyms of "quick".
What rhymes with orange?
Can dogs eat grapes?
Write a haiku about autumn.
What is the GDP of Norway?
Is Pluto a planet?
Generate a random number between 1 and 100
How do I center a div in CSS?
Recommend a science fiction novel.
Who won the 2014 World Cup?
What's the weather usually like in Madrid in May?
Write a slogan for a bakery.
How many ounces are in a pound?
What is photosynthesis?
Translate "Wo ist der Bahnhof?" into English.
Correct this sentence: He go to school yesterday.
How do I say thank you in Japanese?
Tell me about the Battle of Hastings.
What's 15% of 80?
Why is the sky blue?
Write a regex that matches email addresses
Name a mammal that lays eggs.
What language is spoken in Brazil?
How long does it take to hard-boil an egg?
Give me three tips for better sleep.
What is a monad?
Who is the president of France?
How far is the Moon?
Sort these numbers: 5, 2, 9, 1
Describe the taste of saffron.
What are the symptoms of the flu?
Write a tweet announcing a new coffee shop.
How do magnets work?
Make up a name for a fantasy kingdom
What should I cook with chickpeas and spinach?
What is the chemical formula of water?
12 + 30 * 2
Write a for loop in Java
How do airplanes fly?
Is it safe to eat raw cookie dough?
Who invented the telephone?
What's the fastest land animal?
How much does a blue whale weigh?
My laptop won't turn on. What can I check?
Write a cover letter for a nursing job.
Count from 1 to 10 in Spanish.
What does the fox say?
Compare Python and Java.
How do I apply for a passport?
Give me an idea for a birthday present for a ten-year-old.
What is the meaning of 'ubiquitous'?
Reverse the string 'hello'.
How do I get rid of ants in my kitchen?
List 5 countries that start with M
What's the largest ocean?
What is machine learning?
Write a two-line poem about rain.
Can you recommend a good Italian restaurant in Chicago?
How many calories are in a banana?
Find the derivative of x^2 + 3x.
Please write an apology to a customer for a late delivery.
What are the primary colors?
Wie heißt die Hauptstadt von Australien?
Schreibe ein Gedicht über den Winter.
Was ist ein Neutron?
Quelle est la capitale du Canada ?
Écris un poème sur la neige.
¿Quién escribió Don Quijote?
Cuántos habitantes tiene Chile
Rewrite this politely: Send me the file now.
Is there life on Mars?
Pick a number between 1 and 50.
Explain inflation in one sentence.
Who are you?
hex code of forest green
python list comprehension example
cheap flights to Rome tips
define serendipity
""".strip().splitlines()

EARLIER = [
    ("Which plants do well on a shady balcony?", "Ferns, hostas and begonias cope well with little sun."),
    ("My train was cancelled. Do I get money back?", "Usually yes: ask at the ticket office within a month."),
    ("Good morning! How are you today?", "Good morning! I am doing well. What can I do for you?"),
    ("What is a fair price for a used racing bicycle?", "Between a third and a half of its price when new."),
    ("I slept badly. It was so hot.", "I am sorry to hear that. A wet cloth before the window helps a little."),
    ("Can you tell me when the library opens on Saturdays?", "I cannot look it up, but ten o'clock is common."),
    ("Write a short note to my neighbour about the noise.", "Dear neighbour, might I ask for quiet after ten? Thanks!"),
    ("How long can I keep cooked rice in the fridge?", "About a day, and only if it was cooled quickly."),
    ("Who composed The Four Seasons?", "Antonio Vivaldi, around 1720."),
    ("Is it better to lease or to buy a car?", "Buying is cheaper over many years; leasing is simpler for a few."),
    ("Thanks, that was useful.", "You are welcome. Is there anything else?"),
    ("What is the German word for butterfly?", "Schmetterling."),
    ("Recommend a film for a rainy evening.", "How about 'Amelie'? It is warm and a little strange."),
    ("My cat does not eat. Should I worry?", "If it lasts longer than a day, please see a vet."),
]

SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are the assistant of an online garden shop. Answer politely, name our opening hours (9 to 18) where it fits, "
    "never give legal advice, and send complaints to service@garden.invalid.",
    "You are Theo, a tutor for adults who return to school. Be patient. Never say that something is easy.",
    "Current date: 3 March. The user is on a phone: keep answers short. Tools: calendar, mail. Do not invent events.",
    "Antworte immer höflich und in der Sprache des Nutzers. Du hilfst Gästen eines Hotels in Wien.",
    "You help employees of an insurer. Claims above 5,000 go to a human. Never promise a payment. Policies are listed "
    "below.\n\nA12: household, glass included.\nB7: liability, dogs included.\nC3: travel, luggage up to 2,000.",
]
