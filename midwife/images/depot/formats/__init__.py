"""The documents of a depot and how they are packed: indexes, metadata, profiles, bulletins, databases, records."""
