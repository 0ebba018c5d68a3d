"""The boot plane's HTTP: files with sendfile, Range, HEAD and ETag, in a process of its own."""
