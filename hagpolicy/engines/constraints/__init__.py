"""What a constraint allows next, by automata over bytes and the tokens to their end; and whether a text meets it."""
