# SPDX-License-Identifier: Apache-2.0
"""Bytes to frozen dataclasses and back, one file a format; the constants of a format stand beside it.

`pull_*` functions validate and raise `WireError`, and only that, whatever the bytes. `push_*` functions trust what they
are given. What was pulled pushes back octet for octet, but for reserved fields, which are ignored and sent as 0.

    ethernet            EthernetHeader
      ipv6              IPv6Packet, its extension headers and their options
        mobility        the Mobility Header's messages        mobility_options  what they carry
        icmpv6          the ICMPv6 envelope and its errors    neighbor          Neighbor Discovery
                                                              discovery         home agent and prefix discovery
"""
