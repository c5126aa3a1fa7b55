# SPDX-License-Identifier: Apache-2.0
"""The end hosts' own traffic, each a process that tells in lines of JSON what it sent and received, and when.

`ping ADDRESS`: an ICMPv6 Echo Request every 10 ms (RFC 4443 section 4). `receive ADDRESS PORT` and `send ADDRESS PORT
OCTETS_PER_S MINIMUM_OCTETS`: one paced TCP transfer, summed with SHA-256 at both ends. `ping` and `send` run until
their standard input closes. Times are CLOCK_MONOTONIC in nanoseconds, the same clock in every network namespace.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import sys
import time

PING_INTERVAL_NS = 10_000_000
# How long a reply may be under way and still count as received.
STRAGGLER_NS = 1_000_000_000
REPORT_INTERVAL_NS = 100_000_000
SEND_INTERVAL_NS = 20_000_000
RECEIVE_SIZE = 1 << 16

ICMPV6_FILTER = 1
ECHO_REQUEST = 128
ECHO_REPLY = 129
# Type, code, checksum (the kernel fills it), identifier, sequence number; then our own count, which does not wrap.
_ECHO = struct.Struct("!BBHHHQ")
# The size of ping's own packets: 64 octets of ICMPv6.
_PADDING = bytes(64 - _ECHO.size)


def say(**message: object) -> None:
    """One line to the run."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def ordered_to_end(timeout_s: float = 0.0) -> bool:
    """Whether standard input has closed, waiting for that no longer than `timeout_s`."""
    readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def ping(address: str) -> None:
    """Send an Echo Request at every deadline and report, ten times a second, what went and what came."""
    identifier = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        only_echo_replies = bytearray(b"\xff" * 32)
        only_echo_replies[ECHO_REPLY // 8] &= ~(1 << (ECHO_REPLY % 8)) & 0xFF
        raw.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, bytes(only_echo_replies))
        raw.setblocking(False)
        raw.connect((address, 0))
        sent: list[tuple[int, int]] = []
        received: list[tuple[int, int]] = []
        count = 0
        due_ns = report_ns = time.monotonic_ns()
        end_ns: int | None = None
        while True:
            now = time.monotonic_ns()
            if end_ns is None and now >= due_ns:
                # An earlier packet's ICMPv6 error, or a full queue: it counts as sent, and so as lost.
                with contextlib.suppress(OSError):
                    raw.send(_ECHO.pack(ECHO_REQUEST, 0, 0, identifier, count & 0xFFFF, count) + _PADDING)
                sent.append((count, now))
                count += 1
                due_ns += PING_INTERVAL_NS
                continue
            if now >= report_ns or (end_ns is not None and now >= end_ns):
                say(sent=sent, received=received)
                sent, received = [], []
                report_ns = now + REPORT_INTERVAL_NS
            if end_ns is not None and now >= end_ns:
                return
            wake_ns = min(due_ns, report_ns) if end_ns is None else min(end_ns, report_ns)
            readable, _, _ = select.select(
                [raw] if end_ns is not None else [raw, sys.stdin], [], [], max(0, wake_ns - now) / 1e9
            )
            if raw in readable:
                received += _replies(raw, identifier)
            if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1):
                end_ns = time.monotonic_ns() + STRAGGLER_NS


def _replies(raw: socket.socket, identifier: int) -> list[tuple[int, int]]:
    """All replies that wait in the socket, with the time."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            data = raw.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return found
        except OSError:
            continue  # an ICMPv6 error for an earlier packet
        if len(data) >= _ECHO.size:
            kind, _, _, replied_to, _, count = _ECHO.unpack_from(data)
            if kind == ECHO_REPLY and replied_to == identifier:
                found.append((count, time.monotonic_ns()))


def receive(address: str, port: int) -> None:
    """Take one TCP transfer and sum it."""
    digest = hashlib.sha256()
    octets = 0
    report_ns = time.monotonic_ns()
    with socket.create_server((address, port), family=socket.AF_INET6) as server:
        say(listening=True)
        connection, _ = server.accept()
    with connection:
        while data := connection.recv(RECEIVE_SIZE):
            digest.update(data)
            octets += len(data)
            now = time.monotonic_ns()
            if now >= report_ns:
                say(octets=octets)
                report_ns = now + REPORT_INTERVAL_NS
    say(octets=octets, sha256=digest.hexdigest())


def send(address: str, port: int, octets_per_s: int, minimum_octets: int) -> None:
    """Send random octets at an even pace until ordered to end, and `minimum_octets` in any case."""
    digest = hashlib.sha256()
    octets = 0
    with socket.create_connection((address, port)) as connection:
        say(connected=True)
        start_ns = time.monotonic_ns()
        report_ns = start_ns
        ending = False
        while not ending or octets < minimum_octets:
            now = time.monotonic_ns()
            allowance = (now - start_ns) * octets_per_s // 1_000_000_000 - octets
            if ending:
                allowance = min(minimum_octets - octets, RECEIVE_SIZE)
            if allowance > 0:
                data = os.urandom(min(allowance, RECEIVE_SIZE))
                connection.sendall(data)
                digest.update(data)
                octets += len(data)
            if now >= report_ns:
                say(octets=octets)
                report_ns = now + REPORT_INTERVAL_NS
            ending = ending or ordered_to_end(SEND_INTERVAL_NS / 1e9)
        connection.shutdown(socket.SHUT_WR)
        # The receiver closes once it has summed everything, so a transfer that ends here is a whole one.
        connection.recv(1)
    say(octets=octets, sha256=digest.hexdigest())


def main(arguments: list[str]) -> int:
    """Dispatch by the first argument."""
    match arguments:
        case ["ping", address]:
            ping(address)
        case ["receive", address, port]:
            receive(address, int(port))
        case ["send", address, port, octets_per_s, minimum_octets]:
            send(address, int(port), int(octets_per_s), int(minimum_octets))
        case _:
            print(
                "usage: end_host ping ADDRESS | receive ADDRESS PORT | send ADDRESS PORT RATE MINIMUM", file=sys.stderr
            )
            return 2
    return 0


if __name__ == "__main__":
    # By hand, in a lab that is held up, Ctrl-C is how these are ended.
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
