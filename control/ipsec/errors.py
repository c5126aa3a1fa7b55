# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with an operator's security association, said without ever showing key material."""

from __future__ import annotations


class SecurityParameterError(ValueError):
    """A parameter of a security association that cannot be used."""

    def __init__(self, key: str, value: str, remedy: str) -> None:
        super().__init__(f"{key}: {value}: {remedy}")
        self.key = key
        """The parameter's name, spelled as in the keys file."""
        self.value = value
        """What was given, or a description of it where it may be key material."""
        self.remedy = remedy
        """What to give instead."""


class TransformError(SecurityParameterError):
    """An algorithm that is not offered, or a key that does not fit its algorithm."""


class AssociationError(SecurityParameterError):
    """An association that cannot stand: by itself, or beside the others of its database."""
