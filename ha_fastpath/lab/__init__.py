# SPDX-License-Identifier: Apache-2.0
"""The lab: links, a router, a correspondent and a mobile node in network namespaces, and the demonstration run on them.

Nothing here is on the way of an operator's packet; the home agent and the mobile node in it are the real programs.
"""
