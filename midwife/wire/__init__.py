"""Pure codecs: bytes in, values out. Nothing here opens a socket, reads a clock or knows a site."""
