# SPDX-License-Identifier: Apache-2.0
"""IPsec for Mobile IPv6 signalling: ESP transforms, replay window, security associations, policy.

RFC 4303, RFC 3776 and RFC 4877, manual keys only.
Payload ESP is the kernel's, and automatic keying (IKEv2) is not here.
"""
