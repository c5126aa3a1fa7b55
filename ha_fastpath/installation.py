# SPDX-License-Identifier: Apache-2.0
"""Whether the package `control` that Python finds is this program's, and not the one that PyPI calls python-control.

To be asked before anything of `control` is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


class ForeignPackageError(Exception):
    """Another package stands where one of ours should; the text says which, and what to do."""


def require_own_control() -> None:
    """Raise ForeignPackageError unless `control` lies beside this package."""
    wanted = Path(__file__).resolve().parents[1] / "control"
    specification = importlib.util.find_spec("control")
    if specification is None or specification.origin is None:
        raise ForeignPackageError(
            f"the package `control` of ha-fastpath is not at {wanted}: install ha-fastpath anew, in a venv of its own"
        )
    found = Path(specification.origin).resolve().parent
    if found != wanted:
        raise ForeignPackageError(
            f"Python finds a foreign package `control` at {found} (python-control has that name) before ha-fastpath's"
            f" own at {wanted}: run ha-fastpath in a venv of its own, and with no PYTHONPATH"
        )
