"""The sockets: TFTP, HTTP, proxyDHCP and callbacks, thin shells around ``wire`` and ``core``."""
