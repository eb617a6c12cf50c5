"""The faults to survive: what injects them, and the table of which test shows what holds under each.

The injectors are one noun to a file: `proxy` (a network that misbehaves), `stops` (SIGSTOP and kills), `limits` (what
the system grants a process), `sinks` (readers of the log that do not read), `seams` (an exception at the n-th call).
`rows` is the list. The long form of it all is `python -m tests.long.torture`.
"""
