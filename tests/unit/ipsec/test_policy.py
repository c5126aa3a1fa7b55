# SPDX-License-Identifier: Apache-2.0
"""Who may say what under which association (RFC 6275 section 5.1, RFC 4877 section 4)."""

from __future__ import annotations

import pytest

from control.ipsec.association import Purpose
from control.ipsec.policy import PolicyError, PolicyReason, check_message, check_next_header, required_purpose
from control.wire.mobility import MobilityHeaderType
from tests.unit.ipsec.associations import HOME_ADDRESS, OTHER_HOME_ADDRESS, association

# Numbers of RFC 6275 section 6.1, written out: 5 is the Binding Update, 6 the Binding Acknowledgement.
REQUIRED = {5: Purpose.BINDING_UPDATE, 6: Purpose.BINDING_ACKNOWLEDGEMENT}


@pytest.mark.parametrize("mobility_header_type", [*MobilityHeaderType, 8, 255])
def test_updates_and_acknowledgements_need_protection_and_nothing_else(mobility_header_type: int) -> None:
    assert required_purpose(mobility_header_type) is REQUIRED.get(mobility_header_type)


@pytest.mark.parametrize("mobility_header_type", [*MobilityHeaderType, 8, 255])
@pytest.mark.parametrize("purpose", [None, *Purpose])
@pytest.mark.parametrize("home_address", [HOME_ADDRESS, OTHER_HOME_ADDRESS])
def test_every_pair_of_message_and_association(
    mobility_header_type: int, purpose: Purpose | None, home_address: object
) -> None:
    own = None if purpose is None else association(purpose=purpose)
    required = REQUIRED.get(mobility_header_type)
    expected: PolicyReason | None = None
    if own is None:
        expected = PolicyReason.UNPROTECTED if required else None
    elif purpose is not required:
        expected = PolicyReason.WRONG_PURPOSE
    elif home_address is not HOME_ADDRESS:
        expected = PolicyReason.WRONG_HOME_ADDRESS
    claimed = HOME_ADDRESS if home_address is HOME_ADDRESS else OTHER_HOME_ADDRESS
    if expected is None:
        check_message(own, claimed, mobility_header_type)
        return
    with pytest.raises(PolicyError) as refused:
        check_message(own, claimed, mobility_header_type)
    assert refused.value.reason is expected
    assert str(refused.value) == expected.value


def test_only_the_mobility_header_is_carried() -> None:
    check_next_header(135)
    for next_header in (0, 4, 6, 17, 41, 50, 58, 59, 60, 255):
        with pytest.raises(PolicyError) as refused:
            check_next_header(next_header)
        assert refused.value.reason is PolicyReason.WRONG_PROTOCOL
