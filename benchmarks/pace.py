"""Publishes at a steady rate over a plain socket, so that sending costs next to nothing and its time is exact.

python -m benchmarks.pace HOST PORT SUBJECT MESSAGES RATE [KEYS]

With KEYS, `*` in the subject stands for so many in turn. Prints how late the latest message left, in milliseconds, when the server has read them all.
"""

from __future__ import annotations

import socket
import sys
import time

from benchmarks.workload import timed


def main() -> None:
    host, port, subject = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
    total, rate = int(sys.argv[4]), float(sys.argv[5])
    keys = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    subjects = [subject.replace(b"*", b"k%d" % key) for key in range(keys)]
    latest = 0.0
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        ponged(connection)
        began = time.monotonic()
        for number in range(total):
            due = began + number / rate
            while (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            latest = max(latest, -wait)
            body = timed(time.monotonic_ns())
            connection.sendall(b"PUB %b %d\r\n%b\r\n" % (subjects[number % keys], len(body), body))
        ponged(connection)
    print(latest * 1000)


def ponged(connection: socket.socket) -> None:
    """Wait until the server has read everything that was sent."""
    connection.sendall(b"PING\r\n")
    read = b""
    while b"PONG\r\n" not in read:
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        read = read[-8:] + chunk


if __name__ == "__main__":
    main()
