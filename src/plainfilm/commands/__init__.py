"""The commands: each translates what was typed into one call of the library, and prints what came back."""
