"""The TFTP data path: an epoll loop on raw sockets, in a process of its own."""
