# SPDX-License-Identifier: Apache-2.0
"""What leaves and enters the program: TAPs, raw sockets, netlink."""
