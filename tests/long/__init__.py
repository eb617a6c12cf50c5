"""Runs that take minutes: each is a `make` target of its own, prints what it found, and has a short form in the tests."""
