# SPDX-License-Identifier: Apache-2.0
"""The program that the operator runs: it owns every socket, file, clock and BPF map.

The protocol is decided in `control` and packets are forwarded in `bpf/`; neither is done here.
"""
