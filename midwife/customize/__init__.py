"""The hands: operations a step can do on a host, over a pinned SSH connection."""
