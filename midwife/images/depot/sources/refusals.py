"""What it means when a web server does not send the file: words for the person who gave the address.

HTTP statuses (RFC 9110), and the web page with status 200 by which portals answer whoever is not logged in, or
whose download token has run out. Opens no connection.
"""

__all__ = ["PAGE", "advice", "is_page"]

PAGE = "the server sent a web page, perhaps a login; is the address complete, and its token still good?"

_LOGIN = ": the address lacks a user, password or token, or they are not good any more; get the address again"
_ADVICE = {
    401: _LOGIN,
    403: _LOGIN,
    404: ": the address is wrong, or the depot does not have what it lists",
    407: ": the proxy wants a user and password; name them in http_proxy and https_proxy",
}


def advice(status: int) -> str:
    """To end a sentence with; "" where the status says enough."""
    return _ADVICE.get(status, "")


def is_page(head: bytes) -> bool:
    """Whether a file that begins like this is a web page; nothing that a depot has does."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
