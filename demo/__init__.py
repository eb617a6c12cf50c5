"""Real work to look at: task functions, producer scripts, and a conductor that runs them all (`python -m demo`)."""
