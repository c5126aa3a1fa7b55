# SPDX-License-Identifier: Apache-2.0
"""`python -m ha_fastpath`: the same as the command `ha-fastpath`."""

from ha_fastpath.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
