# SPDX-License-Identifier: Apache-2.0
"""The pin directory: who owns it, which interfaces the data path is attached to, and how all of it is taken away.

What is pinned goes on forwarding when the daemon dies, is killed or restarts; a program is changed under traffic with
no packet lost. Only `detach` ends it. The directory holds `link-INTERFACE` for each attachment, the maps by name, and
`configuration`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ha_fastpath.dataplane import abi, libbpf
from ha_fastpath.dataplane.libbpf import AttachMode
from ha_fastpath.dataplane.loader import LoaderError, configuration_pins

_LINK = "link-"
_CLAIM_ATTEMPTS = 10


class OwnedError(LoaderError):
    """Another process owns the pin directory."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where and how the data path runs on an interface."""

    interface: str
    interface_index: int
    mode: AttachMode
    taken_over: bool
    "The data path was attached before, and this program took the place of the one that it had."
    native_refusal: str | None
    "What the driver said to native mode, if generic mode was taken for that."


class PinDirectory:
    """A directory in bpffs, owned by this process until `close`; what is pinned in it stays."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def claim(cls, path: Path) -> Self:
        """Make the directory if need be and become its one owner. Raises OwnedError, LoaderError."""
        # The owner before may remove the directory while this process waits at its door.
        for _ in range(_CLAIM_ATTEMPTS):
            fd = _open_directory(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(fd).st_ino:
                    return cls(path, fd)
            except BlockingIOError:
                os.close(fd)
                raise OwnedError(
                    f"another process owns the data path pinned at {path}; stop it first, or set another pin_directory"
                ) from None
            os.close(fd)
        raise OwnedError(f"{path} is made and removed by another process all the time; try again when it is done")

    def close(self) -> None:
        """Give up the ownership."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def attached_interfaces(self) -> list[str]:
        """The interfaces that have a link pinned, whether they are still there or not."""
        return sorted(_interface_name(pin.name) for pin in self.path.glob(f"{_LINK}*"))

    def attach_xdp(
        self, program_fd: int, interface: str, interface_index: int, *, is_generic: bool = False
    ) -> Attachment:
        """Run a program on an interface: in the place of the pinned one, or newly, native before generic.

        With `is_generic`, native is not tried, and a link that runs natively is made anew. The interface is one of the
        calling thread's network namespace. Raises LoaderError.
        """
        pin = self.path / _link_name(interface)
        try:
            libbpf.require_interface(interface_index)
            if is_generic and pin.exists() and libbpf.xdp_attach_mode(interface_index) is AttachMode.NATIVE:
                # The kernel has no program change its mode: for a moment, none runs.
                self.detach_xdp(interface)
                anew = self._attach_anew(pin, program_fd, interface, interface_index, is_generic=True)
                return replace(anew, taken_over=True)
            if self._take_over(pin, program_fd, interface_index):
                mode = libbpf.xdp_attach_mode(interface_index)
                if mode is None:
                    raise LoaderError(f"the data path's link on {interface} runs nothing; run `ha-fastpath detach`")
                return Attachment(interface, interface_index, mode, taken_over=True, native_refusal=None)
            return self._attach_anew(pin, program_fd, interface, interface_index, is_generic=is_generic)
        except OSError as error:
            raise LoaderError(f"the data path cannot be attached to {interface}: {error.strerror}") from error

    def detach_xdp(self, interface: str) -> None:
        """Take the data path off an interface; nothing happens where it was not attached."""
        pin = self.path / _link_name(interface)
        if not pin.exists():
            return
        fd = libbpf.open_pin(pin)
        try:
            pin.unlink()
            if libbpf.link_information(fd).type == libbpf.BPF_LINK_TYPE_XDP:
                libbpf.detach_link(fd)
        finally:
            os.close(fd)

    def detach_others(self, kept: Container[str]) -> list[str]:
        """Take the data path off every interface but these; says off which."""
        others = [interface for interface in self.attached_interfaces() if interface not in kept]
        for interface in others:
            self.detach_xdp(interface)
        return others

    def detach(self) -> list[str]:
        """End forwarding: detach everywhere, unpin every map, remove the directory. Says what was left in it."""
        self.detach_others(())
        for pin in (*(self.path / name for name in abi.MAPS), *configuration_pins(self.path)):
            pin.unlink(missing_ok=True)
        left = sorted(pin.name for pin in self.path.iterdir())
        if not left:
            self.path.rmdir()
        return left

    def _take_over(self, pin: Path, program_fd: int, interface_index: int) -> bool:
        if not pin.exists():
            return False
        fd = libbpf.open_pin(pin)
        try:
            info = libbpf.link_information(fd)
            if info.type == libbpf.BPF_LINK_TYPE_XDP and info.interface_index == interface_index:
                libbpf.update_link(fd, program_fd)
                return True
            # The interface that it was made for is gone (index 0), or has another name by now.
            pin.unlink()
            return False
        finally:
            os.close(fd)

    def _attach_anew(
        self, pin: Path, program_fd: int, interface: str, interface_index: int, *, is_generic: bool
    ) -> Attachment:
        refusal: str | None = None
        mode = AttachMode.GENERIC if is_generic else AttachMode.NATIVE
        try:
            fd = libbpf.create_xdp_link(program_fd, interface_index, mode)
        except OSError as error:
            if is_generic:
                raise _refusal(interface, error) from error
            if error.errno == errno.EPERM:
                raise
            refusal = os.strerror(error.errno or 0)
            mode = AttachMode.GENERIC
            try:
                fd = libbpf.create_xdp_link(program_fd, interface_index, mode)
            except OSError as generic_error:
                raise _refusal(interface, generic_error) from generic_error
        try:
            libbpf.pin(fd, pin)
        finally:
            os.close(fd)
        return Attachment(interface, interface_index, mode, taken_over=False, native_refusal=refusal)


def _refusal(interface: str, error: OSError) -> OSError | LoaderError:
    """Why generic mode was refused, which every interface has."""
    if error.errno not in (errno.EBUSY, errno.EEXIST):
        return error
    return LoaderError(
        f"another XDP program runs on {interface}; remove it (`ip link set dev {interface} xdp off` or "
        f"`bpftool link detach`) and start again"
    )


def _link_name(interface: str) -> str:
    # bpffs keeps names with a dot for itself; an interface's name may have one, and never a colon.
    return _LINK + interface.replace(".", ":")


def _interface_name(link_name: str) -> str:
    return link_name.removeprefix(_LINK).replace(":", ".")


def _open_directory(path: Path) -> int:
    try:
        if not path.exists():
            existing = next(parent for parent in path.parents if parent.exists())
            _require_bpffs(existing, path)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_bpffs(path, path)
        if path.stat().st_dev != path.parent.stat().st_dev:
            raise LoaderError(
                f"{path} is the root of bpffs, where others pin too; set pin_directory to a directory below it"
            )
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LoaderError(f"the pin directory {path} cannot be used: {error.strerror}") from error


def _require_bpffs(path: Path, wanted: Path) -> None:
    if not libbpf.is_bpffs(path):
        raise LoaderError(
            f"no bpffs is mounted at {wanted}; run `mount -t bpf bpf /sys/fs/bpf`, or set pin_directory to a place in "
            f"one that is"
        )
