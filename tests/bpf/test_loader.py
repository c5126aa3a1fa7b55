# SPDX-License-Identifier: Apache-2.0
"""The loader and the pins on a live kernel: configuration, sizes, restart, takeover, and what is refused.

The program is a small one of the test's own, with maps of every kind that the data path has; bpftool says what the
kernel holds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.libbpf import AttachMode
from ha_fastpath.dataplane.loader import BpfObject, LoaderError, configuration_pins
from ha_fastpath.dataplane.pins import OwnedError, PinDirectory
from tests.bpf.compiler import HEADERS, compile_bpf
from tests.bpf.namespace import bpf_file_system, ip, network_namespace

pytestmark = pytest.mark.bpf

XDP_PASS = 2
FRAME = bytes(60)

MAP = """struct {{
	__uint(type, {type});
	__uint(max_entries, {max_entries});
	__type(key, {key});
	__type(value, {value});
}} {name} SEC(".maps");
"""

# Answers with the octets that the tests tell programs and configurations apart by.
PROGRAM = """
SEC("xdp.frags") int ha_xdp(struct xdp_md *context)
{
	__u8 *data = (void *)(long)context->data;
	struct ha_binding_key key = {};

	if (data + 14 > (__u8 *)(long)context->data_end)
		return XDP_DROP;
	data[0] = PROGRAM_NUMBER;
	data[1] = ha_configuration.abi_version;
	data[2] = ha_configuration.spi_first;
	data[3] = context->ingress_ifindex;
	if (bpf_map_lookup_elem(&bindings, &key) || bpf_map_lookup_elem(&home_agent_addresses, &key))
		data[4] = 1;
	return XDP_PASS;
}
char LICENSE[] SEC("license") = "GPL";
"""


def source(number: int = 1, max_entries: int = 16) -> str:
    return "\n".join(
        [
            '#include "ha_abi.h"\n#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>',
            f"#define PROGRAM_NUMBER {number}",
            # Before the configuration, so that its offset in .rodata is not 0.
            "const volatile __u64 filler = 5;\n"
            "const volatile struct ha_configuration ha_configuration = { .abi_version = HA_ABI_VERSION };",
            MAP.format(
                type="BPF_MAP_TYPE_HASH",
                max_entries=max_entries,
                key="struct ha_binding_key",
                value="struct ha_binding",
                name="bindings",
            ),
            MAP.format(
                type="BPF_MAP_TYPE_HASH",
                max_entries=4,
                key="struct in6_addr",
                value="__u32",
                name="home_agent_addresses",
            ),
            MAP.format(type="BPF_MAP_TYPE_DEVMAP_HASH", max_entries=4, key="__u32", value="__u32", name="taps"),
            MAP.format(
                type="BPF_MAP_TYPE_PERCPU_ARRAY", max_entries=4, key="__u32", value="struct ha_counter", name="counters"
            ),
            PROGRAM,
        ]
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_bpf(source(), tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def built_anew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same maps, another program."""
    return compile_bpf(source(number=2), tmp_path_factory.mktemp("second"))


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """A place for a pin directory, in a BPF file system; the calling thread is in a namespace of its own."""
    # bpffs refuses names with a dot, and pytest's directory has none of the test's making.
    mount_point = tmp_path / "bpffs"
    mount_point.mkdir()
    with network_namespace(), bpf_file_system(mount_point):
        yield mount_point / "ha-fastpath"


def bpftool(*arguments: str) -> Any:
    return json.loads(subprocess.run(["bpftool", "-j", *arguments], check=True, capture_output=True).stdout)


def interface_index(name: str) -> int:
    shown = subprocess.run(["ip", "-j", "link", "show", "dev", name], check=True, capture_output=True).stdout
    return int(json.loads(shown)[0]["ifindex"])


def make_veth(name: str) -> int:
    ip(f"link add dev {name} type veth peer name peer")
    ip(f"link set dev {name} up")
    return interface_index(name)


def attached_program(name: str) -> int | None:
    """The XDP program that iproute2 sees on an interface."""
    shown = json.loads(
        subprocess.run(["ip", "-j", "link", "show", "dev", name], check=True, capture_output=True).stdout
    )
    xdp = shown[0].get("xdp")
    return None if xdp is None else int(xdp["prog"]["id"])


def first_octet(program_fd: int) -> int:
    verdict, frame = libbpf.prog_test_run(program_fd, FRAME)
    assert verdict == XDP_PASS
    return frame[0]


def test_configuration_and_sizes_are_set_before_the_load(built: Path) -> None:
    configuration = abi.HaConfiguration(spi_first=0x42)
    with BpfObject.load(built, configuration=configuration, max_entries={"bindings": 77}) as loaded:
        verdict, frame = libbpf.prog_test_run(loaded.program_fd("ha_xdp"), FRAME, ingress_ifindex=1)
        assert (verdict, frame[:5]) == (XDP_PASS, bytes([1, abi.ABI_VERSION, 0x42, 1, 0]))
        assert frame[5:] == FRAME[5:]
        assert libbpf.map_information(loaded.map_fd("bindings")).max_entries == 77


def test_without_a_pin_directory_nothing_is_pinned(built: Path, pins: Path) -> None:
    with BpfObject.load(built) as loaded:
        assert set(loaded.map_fds) == {"bindings", "home_agent_addresses", "taps", "counters", ".rodata"}
        assert not pins.exists()


def test_maps_are_pinned_by_their_full_names(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=directory.path):
        assert {pin.name for pin in pins.iterdir()} == {
            "bindings",
            "home_agent_addresses",
            "taps",
            "counters",
            "configuration-abi-1",
        }
        shown = bpftool("map", "show", "pinned", str(pins / "home_agent_addresses"))
        assert (shown["type"], shown["bytes_key"], shown["bytes_value"]) == ("hash", 16, 4)


def test_a_restart_finds_the_maps_with_what_is_in_them(built: Path, built_anew: Path, pins: Path) -> None:
    with PinDirectory.claim(pins), BpfObject.load(built, pin_directory=pins):
        before = {pin.name: bpftool("map", "show", "pinned", str(pin))["id"] for pin in pins.iterdir()}
    with PinDirectory.claim(pins), BpfObject.load(built_anew, pin_directory=pins) as loaded:
        after = {pin.name: bpftool("map", "show", "pinned", str(pin))["id"] for pin in pins.iterdir()}
        assert libbpf.map_information(loaded.map_fd("bindings")).id == before["bindings"]
        assert libbpf.map_information(loaded.map_fd("taps")).id == before["taps"]
    # The configuration is each load's own.
    assert before.pop("configuration-abi-1") != after.pop("configuration-abi-1")
    assert before == after


def test_the_program_is_exchanged_on_the_same_link(built: Path, built_anew: Path, pins: Path) -> None:
    with network_namespace():
        # A dot in the name: VLAN interfaces have one, and bpffs takes none.
        index = make_veth("up.7")
        with PinDirectory.claim(pins) as directory:
            with BpfObject.load(built, pin_directory=pins) as loaded:
                attachment = directory.attach_xdp(loaded.program_fd("ha_xdp"), "up.7", index)
                first = libbpf.program_information(loaded.program_fd("ha_xdp")).id
            assert (attachment.mode, attachment.taken_over) == (AttachMode.NATIVE, False)
            assert directory.attached_interfaces() == ["up.7"]
        # Nobody has a file descriptor now; the pin alone keeps it.
        assert attached_program("up.7") == first
        link = bpftool("link", "show", "pinned", str(pins / "link-up:7"))

        with PinDirectory.claim(pins) as directory, BpfObject.load(built_anew, pin_directory=pins) as loaded:
            attachment = directory.attach_xdp(loaded.program_fd("ha_xdp"), "up.7", index)
            second = libbpf.program_information(loaded.program_fd("ha_xdp")).id
            assert (attachment.mode, attachment.taken_over) == (AttachMode.NATIVE, True)
            assert first_octet(loaded.program_fd("ha_xdp")) == 2
        assert attached_program("up.7") == second != first
        assert bpftool("link", "show", "pinned", str(pins / "link-up:7"))["id"] == link["id"]


def test_generic_mode_where_the_driver_has_no_other(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        attachment = directory.attach_xdp(loaded.program_fd("ha_xdp"), "lo", 1)
        assert (attachment.mode, attachment.native_refusal) == (AttachMode.GENERIC, "Operation not supported")
        directory.detach()


def test_a_link_of_a_vanished_interface_is_replaced(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        program = loaded.program_fd("ha_xdp")
        old = make_veth("up")
        directory.attach_xdp(program, "up", old)
        ip("link del dev up")
        ip("link add dev up type bridge")
        new = interface_index("up")
        attachment = directory.attach_xdp(program, "up", new)
        assert (attachment.taken_over, attachment.interface_index) == (False, new)
        assert attached_program("up") == libbpf.program_information(program).id


def test_an_interface_that_is_not_there_is_refused(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        with pytest.raises(LoaderError, match="cannot be attached to gone: No such device"):
            directory.attach_xdp(loaded.program_fd("ha_xdp"), "gone", 4711)
        assert directory.attached_interfaces() == []


def test_another_xdp_program_is_not_driven_out(built: Path, pins: Path) -> None:
    index = make_veth("up")
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        ip(f"link set dev up xdpdrv object {built} section xdp.frags")
        other = attached_program("up")
        with pytest.raises(LoaderError, match=re.escape("another XDP program runs on up; remove it")):
            directory.attach_xdp(loaded.program_fd("ha_xdp"), "up", index)
        assert attached_program("up") == other


def test_detach_takes_all_away(built: Path, pins: Path) -> None:
    indices = {"up": make_veth("up"), "lo": 1}
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        for interface, index in indices.items():
            directory.attach_xdp(loaded.program_fd("ha_xdp"), interface, index)
        assert directory.detach_others({"up"}) == ["lo"]
        assert attached_program("lo") is None
        assert attached_program("up") is not None
        assert directory.detach() == []
        assert attached_program("up") is None
    assert not pins.exists()


def test_detach_leaves_and_names_what_it_did_not_make(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
        libbpf.pin(loaded.map_fd("taps"), pins / "somebodys")
        assert directory.detach() == ["somebodys"]
        assert [pin.name for pin in pins.iterdir()] == ["somebodys"]


def test_a_second_owner_is_refused(pins: Path) -> None:
    claim = (
        "import sys; from pathlib import Path; from ha_fastpath.dataplane.pins import OwnedError, PinDirectory\n"
        "try: PinDirectory.claim(Path(sys.argv[1]))\n"
        "except OwnedError as error: sys.exit(str(error))"
    )
    command = [sys.executable, "-c", claim, str(pins)]
    with PinDirectory.claim(pins):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert refused.stderr.strip() == (
            f"another process owns the data path pinned at {pins}; stop it first, or set another pin_directory"
        )
        with pytest.raises(OwnedError):
            PinDirectory.claim(pins)
    assert subprocess.run(command, check=False).returncode == 0


def test_a_place_outside_bpffs_is_refused(pins: Path, tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="no bpffs is mounted at"):
        PinDirectory.claim(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(LoaderError, match="is the root of bpffs"):
        PinDirectory.claim(pins.parent)


def test_another_size_is_refused_and_nothing_changed(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins):
        BpfObject.load(built, pin_directory=pins).close()
        before = bpftool("map", "show", "pinned", str(pins / "configuration-abi-1"))["id"]
        with pytest.raises(LoaderError) as refusal:
            BpfObject.load(built, max_entries={"bindings": 32}, pin_directory=pins)
        assert str(refusal.value).startswith(
            f"the map `bindings` pinned at {pins}/bindings has max_entries 16, wanted is 32: "
        )
        assert "run `ha-fastpath detach`" in str(refusal.value)
        assert bpftool("map", "show", "pinned", str(pins / "configuration-abi-1"))["id"] == before


def test_another_layout_of_the_same_size_is_refused(built: Path, pins: Path, tmp_path: Path) -> None:
    header = (HEADERS / "ha_abi.h").read_text(encoding="ascii")
    exchanged = header.replace(
        "struct in6_addr care_of_address;\n\t/* The address that the mobile node registered with",
        "struct in6_addr care_of_address_of_old;\n\t/* The address that the mobile node registered with",
    )
    assert exchanged != header
    (tmp_path / "ha_abi.h").write_text(exchanged, encoding="ascii")
    foreign = compile_bpf(source(), tmp_path, headers=tmp_path)
    with PinDirectory.claim(pins):
        BpfObject.load(foreign, pin_directory=pins).close()
        with pytest.raises(LoaderError) as refusal:
            BpfObject.load(built, pin_directory=pins)
    message = str(refusal.value)
    assert message.startswith(f"the map `bindings` pinned at {pins}/bindings has the value layout ")
    assert "care_of_address_of_old at 16+16" in message
    assert "run `ha-fastpath detach`" in message


def test_another_type_is_refused(built: Path, pins: Path, tmp_path: Path) -> None:
    foreign = compile_bpf(source().replace("BPF_MAP_TYPE_PERCPU_ARRAY", "BPF_MAP_TYPE_ARRAY"), tmp_path)
    with PinDirectory.claim(pins):
        # Not by the loader, which refuses the object itself.
        subprocess.run(["bpftool", "prog", "loadall", foreign, pins / "programs", "pinmaps", pins], check=True)
        with pytest.raises(LoaderError, match=r"`counters` pinned at \S+ has type 2, wanted is 6"):
            BpfObject.load(built, pin_directory=pins)


def test_another_abi_version_is_refused(
    built: Path, pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = (HEADERS / "ha_abi.h").read_text(encoding="ascii")
    (tmp_path / "ha_abi.h").write_text(re.sub(r"(ABI_VERSION) \d+", r"\1 99", header), encoding="ascii")
    newer = compile_bpf(source(), tmp_path, "newer", tmp_path)
    with PinDirectory.claim(pins):
        assert configuration_pins(pins) == []
        with BpfObject.load(built, configuration=abi.HaConfiguration(), pin_directory=pins):
            assert [pin.name for pin in configuration_pins(pins)] == ["configuration-abi-1"]
        with pytest.raises(LoaderError, match=r"newer\.bpf\.o has ABI version 99, wanted is 1: "):
            BpfObject.load(newer, configuration=abi.HaConfiguration(), pin_directory=pins)
        monkeypatch.setattr(abi, "ABI_VERSION", 99)
        with pytest.raises(LoaderError, match=r"pinned at \S+/configuration-abi-1 has ABI version 1, wanted is 99"):
            BpfObject.load(newer, configuration=abi.HaConfiguration(), pin_directory=pins)


def test_a_pin_that_is_no_map_is_refused(built: Path, pins: Path) -> None:
    with PinDirectory.claim(pins) as directory, BpfObject.load(built) as loaded:
        libbpf.pin(loaded.program_fd("ha_xdp"), directory.path / "bindings")
        with pytest.raises(LoaderError, match=r"what is pinned at \S+/bindings is not a map"):
            BpfObject.load(built, pin_directory=pins)


def test_an_object_of_another_header_is_refused(tmp_path: Path) -> None:
    longer = source().replace('SEC(".maps");', 'SEC(".maps");', 1).replace("struct ha_counter", "__u64", 1)
    with pytest.raises(LoaderError, match=r"was built from another ha_abi\.h: its map `counters`"):
        BpfObject.load(compile_bpf(longer, tmp_path))


def test_an_unknown_map_is_not_pinned_in_silence(pins: Path, tmp_path: Path) -> None:
    with_more = source() + MAP.format(
        type="BPF_MAP_TYPE_HASH", max_entries=1, key="__u32", value="__u32", name="surprise"
    )
    with (
        PinDirectory.claim(pins),
        pytest.raises(LoaderError, match=re.escape("has a map `surprise` that abi.py does not know")),
    ):
        BpfObject.load(compile_bpf(with_more, tmp_path), pin_directory=pins)


def test_the_verifiers_log_is_shown(tmp_path: Path) -> None:
    unchecked = source().replace("data + 14 > (__u8 *)(long)context->data_end", "0")
    with pytest.raises(LoaderError, match="invalid access to packet") as refusal:
        BpfObject.load(compile_bpf(unchecked, tmp_path))
    assert str(refusal.value).startswith(f"the kernel refused {tmp_path}")
    assert any("R" in line and "pkt" in line for line in refusal.value.log)


def test_what_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.bpf.o"
    path.write_text("not an ELF file", encoding="ascii")
    with pytest.raises(LoaderError, match="is not a BPF object that libbpf can read"):
        BpfObject.load(path)
    with pytest.raises(LoaderError, match="is not a BPF object"):
        BpfObject.load(tmp_path / "missing.bpf.o")


def test_maps_are_taken_over_without_the_right_to_read_btf(built: Path, pins: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ha_fastpath.dataplane import abi;"
        " from ha_fastpath.dataplane.loader import BpfObject;"
        " path, pins = map(Path, sys.argv[1:]);"
        " BpfObject.load(path, configuration=abi.HaConfiguration(), pin_directory=pins).close()"
    )
    rights = "-all,+bpf,+net_admin,+perfmon"
    with PinDirectory.claim(pins):
        for _ in range(2):
            subprocess.run(
                ["setpriv", f"--bounding-set={rights}", sys.executable, "-c", script, built, pins], check=True
            )


def test_a_native_link_is_made_generic_where_that_is_asked_for(built: Path, pins: Path) -> None:
    with network_namespace():
        index = make_veth("up")
        with PinDirectory.claim(pins) as directory, BpfObject.load(built, pin_directory=pins) as loaded:
            program = loaded.program_fd("ha_xdp")
            assert directory.attach_xdp(program, "up", index).mode is AttachMode.NATIVE
            made_anew = directory.attach_xdp(program, "up", index, is_generic=True)
            assert (made_anew.mode, made_anew.taken_over) == (AttachMode.GENERIC, True)
            taken_over = directory.attach_xdp(program, "up", index, is_generic=True)
            assert (taken_over.mode, taken_over.taken_over) == (AttachMode.GENERIC, True)
            assert libbpf.xdp_attach_mode(index) is AttachMode.GENERIC
