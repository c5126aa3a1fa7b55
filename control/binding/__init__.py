# SPDX-License-Identifier: Apache-2.0
"""The binding cache and how registrations change it (RFC 6275 sections 9.5, 10.3 and 10.4.1)."""
