# SPDX-License-Identifier: Apache-2.0
"""Movement detection: which link a mobile node is on, by the Router Advertisements that it hears.

RFC 6275 section 11.5.1 leaves the method open. Here: the home prefix means home, at once. Another link is believed in
after a loss of the carrier, or when the router in use has missed several of its own advertisements; until then a
second router on the same link makes nothing move to and fro. No unreachability detection, and no hints but the carrier.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto
from ipaddress import IPv6Address, IPv6Network

from control.wire.ipv6 import is_unicast_routable
from control.wire.neighbor import (
    INFINITE_LIFETIME_S,
    AdvertisementInterval,
    PrefixInformation,
    RouterAdvertisement,
)

MISSED_ADVERTISEMENTS = 3
"""How many of the router's own intervals without an advertisement make it one that is gone."""
PREFIX_LENGTH = 64
"""The only one that an interface identifier on Ethernet fits (RFC 2464 section 4)."""
_MILLISECOND_NS = 1_000_000
_SECOND_NS = 1_000_000_000


class Observation(Enum):
    """What a Router Advertisement says of where the mobile node is."""

    IGNORED = auto()
    CONFIRMED = auto()
    ROUTER_CHANGED = auto()
    "The same link, by another router, or by the same one with another MAC address."
    MOVED = auto()


@dataclass(frozen=True, slots=True)
class Attachment:
    """The link that the mobile node is on."""

    prefix: IPv6Network
    is_home: bool
    router: IPv6Address
    "Link-local."
    router_mac: bytes | None
    "By the advertisement's option; None without one."
    router_lifetime_s: int
    "0 only at home, of a router that is no default router."
    valid_lifetime_s: int | None
    "Of the prefix; None: for ever."
    home_agent_mac: bytes | None = None
    "At home, if the home agent itself was heard to advertise."

    @property
    def default_router(self) -> IPv6Address | None:
        """The router, if it is one for all destinations."""
        return self.router if self.router_lifetime_s > 0 else None


class Movement:
    """The link that one interface is on."""

    def __init__(self, home_prefix: IPv6Network, home_agent_address: IPv6Address) -> None:
        self.attachment: Attachment | None = None
        self._home_prefix = home_prefix
        self._home_agent_address = home_agent_address
        self._link_may_differ = True
        self._heard_ns = 0
        self._interval_ns: int | None = None

    @property
    def is_certain(self) -> bool:
        """True while nothing has happened since the attachment's router was heard that may have led to another link."""
        return self.attachment is not None and not self._link_may_differ

    def link_changed(self) -> None:
        """The carrier went or came: the next router heard decides, whichever it is."""
        self._link_may_differ = True

    def leave(self) -> None:
        """Forget the link, whose prefix can be used no more."""
        self.attachment = None

    def observe(self, advertisement: RouterAdvertisement, router: IPv6Address, now: int) -> Observation:
        """Take in a valid Router Advertisement from `router`."""
        heard = self._attachment_of(advertisement, router)
        if heard is None:
            return Observation.IGNORED
        current = self.attachment
        if current is None or heard.prefix != current.prefix:
            # Home is believed in at once: it is where no tunnel is needed.
            if current is not None and not heard.is_home and self._is_alive(current, now):
                return Observation.IGNORED
            self._enter(heard, advertisement, now)
            return Observation.MOVED
        if self._link_may_differ:
            self._enter(heard, advertisement, now)
            return Observation.MOVED
        if heard.router != current.router:
            if heard.home_agent_mac is not None and current.home_agent_mac is None:
                self.attachment = current = replace(current, home_agent_mac=heard.home_agent_mac)
            if heard.router_lifetime_s == 0 or (current.router_lifetime_s > 0 and self._is_alive(current, now)):
                return Observation.IGNORED
            heard = replace(heard, home_agent_mac=current.home_agent_mac)
            self._enter(heard, advertisement, now)
            return Observation.ROUTER_CHANGED
        self._interval_ns = self._interval_of(advertisement, now - self._heard_ns)
        self._heard_ns = now
        self.attachment = replace(
            heard,
            router_mac=heard.router_mac or current.router_mac,
            home_agent_mac=heard.home_agent_mac or current.home_agent_mac,
        )
        same = (self.attachment.router_mac, heard.router_lifetime_s > 0) == (
            current.router_mac,
            current.router_lifetime_s > 0,
        )
        return Observation.CONFIRMED if same else Observation.ROUTER_CHANGED

    def _enter(self, attachment: Attachment, advertisement: RouterAdvertisement, now: int) -> None:
        self.attachment = attachment
        self._link_may_differ = False
        self._heard_ns = now
        self._interval_ns = None
        self._interval_ns = self._interval_of(advertisement, None)

    def _is_alive(self, attachment: Attachment, now: int) -> bool:
        """Whether the router in use was heard lately, and by the link that it is on."""
        if self._link_may_differ:
            return False
        if self._interval_ns is not None:
            return now - self._heard_ns <= MISSED_ADVERTISEMENTS * self._interval_ns
        return now - self._heard_ns < attachment.router_lifetime_s * _SECOND_NS

    def _interval_of(self, advertisement: RouterAdvertisement, gap_ns: int | None) -> int | None:
        """The longest time between two advertisements: the router's own word for it, else the longest seen."""
        for option in advertisement.options:
            if isinstance(option, AdvertisementInterval) and option.interval_ms > 0:
                return option.interval_ms * _MILLISECOND_NS
        if gap_ns is None:
            return self._interval_ns
        return max(gap_ns, self._interval_ns or 0)

    def _attachment_of(self, advertisement: RouterAdvertisement, router: IPv6Address) -> Attachment | None:
        """The link that an advertisement describes; None if there is nothing on it to be used."""
        prefix: PrefixInformation | None = None
        home_agent_mac: bytes | None = None
        is_home = False
        for candidate in advertisement.prefixes:
            if candidate.prefix_length != PREFIX_LENGTH or candidate.valid_lifetime_s == 0:
                continue
            if candidate.prefix in self._home_prefix and (candidate.on_link or candidate.router_address):
                prefix, is_home = candidate, True
                if candidate.router_address and candidate.prefix == self._home_agent_address:
                    home_agent_mac = advertisement.source_link_layer_address
            elif not is_home and advertisement.router_lifetime_s > 0 and self._is_better(candidate, prefix):
                prefix = candidate
        if prefix is None:
            return None
        return Attachment(
            prefix=_network(prefix),
            is_home=is_home,
            router=router,
            router_mac=advertisement.source_link_layer_address,
            router_lifetime_s=advertisement.router_lifetime_s,
            valid_lifetime_s=None if prefix.valid_lifetime_s == INFINITE_LIFETIME_S else prefix.valid_lifetime_s,
            home_agent_mac=home_agent_mac,
        )

    def _is_better(self, candidate: PrefixInformation, chosen: PrefixInformation | None) -> bool:
        """Whether a care-of address is rather to be formed in `candidate` than in `chosen`."""
        # RFC 4862 section 5.5.3 (a) to (c).
        if not candidate.autonomous or candidate.preferred_lifetime_s > candidate.valid_lifetime_s:
            return False
        if candidate.prefix in self._home_prefix or not is_unicast_routable(candidate.prefix):
            return False
        if chosen is None:
            return True
        current = self.attachment.prefix if self.attachment is not None else None
        if _network(chosen) == current or _network(candidate) == current:
            return _network(candidate) == current
        return chosen.preferred_lifetime_s == 0 and candidate.preferred_lifetime_s > 0


def _network(prefix: PrefixInformation) -> IPv6Network:
    return IPv6Network((prefix.prefix, prefix.prefix_length), strict=False)
