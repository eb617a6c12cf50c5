"""Runs that take minutes: each is a `make` target of its own, and prints what it found."""
