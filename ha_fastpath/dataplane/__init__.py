# SPDX-License-Identifier: Apache-2.0
"""The data path seen from Python: loading it, attaching it, and reading and writing its maps.

No protocol is decided here, and no socket is opened: routes and neighbors arrive as plain data.
"""
