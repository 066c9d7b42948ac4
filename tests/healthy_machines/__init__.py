"""Machines on which nothing is wrong, of many makes: every finding of theirs above info is a false alarm."""
