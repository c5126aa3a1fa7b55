# SPDX-License-Identifier: Apache-2.0
"""Measurements of the data path; see data_path.py."""
