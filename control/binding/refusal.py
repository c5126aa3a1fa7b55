# SPDX-License-Identifier: Apache-2.0
"""A Binding Update that is answered with a status of 128 or more (RFC 6275 section 6.1.8)."""

from control.wire.mobility import BindingStatus


class Refusal(Exception):  # noqa: N818 -- it is an answer, not an error
    """Raised where the decision is made; becomes the acknowledgement's status."""

    def __init__(self, status: BindingStatus, last_sequence: int | None = None) -> None:
        super().__init__(status.name)
        self.status = status
        self.last_sequence = last_sequence
        "What the acknowledgement says in place of the Binding Update's own sequence number, with status 135."
