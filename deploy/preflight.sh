#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What this machine must have before `make` changes anything on it: one sentence and a remedy for the first thing that is
# missing, exit status 2. The daemon checks more, and finer, when it starts (ha_fastpath/dataplane/preflight.py).
set -eu

refuse() {
	printf 'ha-fastpath: %s\n' "$1" >&2
	exit 2
}

[ "$(uname -s)" = Linux ] || refuse "this is $(uname -s), and XDP is Linux's: use a Debian 12 machine."

if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 ||
		refuse "you are not root and there is no sudo: run this as root."
	# -v asks for the password once, on the terminal; without one it fails instead of hanging.
	sudo -v 2>/dev/null || sudo -n true 2>/dev/null ||
		refuse "you are not root and sudo refuses you: run this as root, or as a user who may use sudo."
fi

release=$(uname -r)
major=${release%%.*}
minor=${release#*.}
minor=${minor%%[!0-9]*}
if [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -lt 1 ]; }; then
	refuse "kernel $release is too old: 6.1 or newer is needed, as in Debian 12 (apt-get install linux-image-amd64, and reboot)."
fi

grep -qw bpf /proc/filesystems ||
	refuse "the kernel has no bpffs, so BPF maps cannot be pinned: boot a kernel with CONFIG_BPF_SYSCALL=y."
[ -e /sys/kernel/btf/vmlinux ] ||
	refuse "the kernel has no BTF of its own (/sys/kernel/btf/vmlinux): boot a kernel with CONFIG_DEBUG_INFO_BTF=y."

command -v apt-get >/dev/null 2>&1 ||
	refuse "there is no apt-get: the packages are named for Debian 12; install them by hand and run 'make SKIP_PACKAGES=1 ...'."
