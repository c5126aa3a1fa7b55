# SPDX-License-Identifier: Apache-2.0
"""Mobile IPv6 as pure computation: bytes and a time go in, decisions come out.

Nothing here opens a socket, reads a clock, draws a random number or touches a file; `ha_fastpath` does all that.
"""
