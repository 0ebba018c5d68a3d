"""``midwife ruleset``: the working set and the active set."""
