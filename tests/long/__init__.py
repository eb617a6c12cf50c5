"""Runs that take minutes: each is a `make` target, prints what it found, and has a short form in the tests."""
