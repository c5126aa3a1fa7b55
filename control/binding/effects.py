# SPDX-License-Identifier: Apache-2.0
"""What the home agent asks of the service. Effects are executed in the order in which they were taken.

Only `InstallBinding` is answered, by `HomeAgent.effect_done`; whatever rests on its success is decided then.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from control.binding.cache import BindingCacheEntry


class EffectResult(StrEnum):
    """How `InstallBinding` went."""

    DONE = "done"
    TABLE_FULL = "table_full"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StartDad:
    """Have the data path hand over Neighbor Solicitations and Advertisements for `address`."""

    address: IPv6Address
    home_link: int


@dataclass(frozen=True, slots=True)
class StopDad:
    """The address is under duplicate address detection no more."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class InstallBinding:
    """Write the binding to the data path's map, new or in place of an earlier one; answered by `effect_done`."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class RemoveBinding:
    """Take the binding out of the map, and record `entry.sequence` as the last one of its home address."""

    entry: BindingCacheEntry


@dataclass(frozen=True, slots=True)
class ReserveSequenceNumbers:
    """Commit to disk, before the next effect, that ESP sequence numbers up to `through` may have been used."""

    spi: int
    through: int


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a whole Ethernet frame by `interface`."""

    interface: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send a whole IPv6 packet by the kernel's routes."""

    packet: bytes


Effect = StartDad | StopDad | InstallBinding | RemoveBinding | ReserveSequenceNumbers | SendFrame | SendPacket
