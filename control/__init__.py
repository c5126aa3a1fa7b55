# SPDX-License-Identifier: Apache-2.0
"""The Mobile IPv6 protocol as pure Python: bytes and a time go in, decisions come out."""
