"""A control process for the tests: answers from a JSON table, prints every line it hears.

    python fake_control.py SOCKET TABLE      (a line on standard input is sent to the data plane as it is)

The table maps a name, without attempt, to {"path": …, "cache": …}, {"body": …} or {"refused": …, "status": …};
a name that is not in it is refused with 404, a name that maps to null is never answered.
"""

import json
import socket
import sys
import threading
from pathlib import Path

from midwife.serve.messages import Ask, Content, Found, Outcome, Refused, decode, encode, split_attempt


def answer(ask: Ask, table: Path) -> Outcome | None:
    attempt, name = split_attempt(ask.name)
    entry = json.loads(table.read_text()).get(name, {"refused": f"no such file: {name}"})
    if entry is None:
        return None
    if "path" in entry:
        path = Path(entry["path"])
        size = path.stat().st_size if path.exists() else 0
        return Found(ask.id, entry["path"], size, attempt, cache=entry.get("cache", False))
    if "body" in entry:
        return Content(ask.id, entry["body"].encode(), entry.get("attempt", attempt))
    return Refused(ask.id, entry["refused"], entry.get("status", 404))


def main() -> None:
    path, table = sys.argv[1], Path(sys.argv[2])
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4)
    print('{"op":"ready"}', flush=True)
    link, _ = listener.accept()
    threading.Thread(target=lambda: [link.sendall(line.encode()) for line in sys.stdin], daemon=True).start()
    with link.makefile("rb") as lines:
        for line in lines:
            print(line.decode(), end="", flush=True)
            message = decode(line)
            if isinstance(message, Ask) and (outcome := answer(message, table)):
                link.sendall(encode(outcome))


if __name__ == "__main__":
    main()
