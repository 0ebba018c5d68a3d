"""The depot library below ``<data>/depots``: records, payloads, and how both are filled."""
