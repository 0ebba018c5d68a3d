"""One VIB: its container, descriptor, payloads, signature; reading, proving and building it."""
