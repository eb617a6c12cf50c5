"""A task module that cannot be loaded."""

1 / 0  # noqa: B018
