"""Measured claims: every speed or accuracy in the docs comes from a program here."""
