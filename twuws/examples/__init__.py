"""Example job classes, complete enough to be run as they are."""
