# SPDX-License-Identifier: Apache-2.0
"""The command `ha-fastpath`. Exit status: 0 good, 1 the answer is no, 2 usage or configuration.

What a subcommand needs is imported when it is called, so that `show` does not pay for what `run` needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ha_fastpath import config, tables
from ha_fastpath.installation import ForeignPackageError, require_own_control

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD: Final = 0
NO: Final = 1
MISUSED: Final = 2

_EPILOG: Final = "Exit status: 0 good, 1 the answer is no, 2 usage or configuration."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    options = _parser().parse_args(arguments)
    subcommand: Callable[[argparse.Namespace], int] = options.subcommand
    try:
        require_own_control()
        return subcommand(options)
    except config.ConfigurationError as error:
        for problem in error.problems:
            _complain(str(problem))
        return MISUSED
    except ForeignPackageError as error:
        _complain(str(error))
        return MISUSED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has read enough. Python would complain once more when it flushes at exit.
        sys.stdout = None
        return GOOD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ha-fastpath", description="A Mobile IPv6 home agent (RFC 6275) with its data path in XDP.", epilog=_EPILOG
    )
    # Before and after the subcommand: whichever comes to mind. The latter must not undo the former by its default.
    parser.add_argument("-c", dest="configuration", metavar="FILE", type=Path, help="the configuration file")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "-c", dest="configuration", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="the configuration file"
    )
    subcommands = parser.add_subparsers(required=True, metavar="SUBCOMMAND")

    run = subcommands.add_parser("run", parents=[shared], help="be the home agent, until SIGTERM", epilog=_EPILOG)
    run.add_argument("-v", "--verbose", action="store_true", help="log every refresh and every dropped frame too")
    run.set_defaults(subcommand=_run)

    check = subcommands.add_parser(
        "check", parents=[shared], help="look at configuration, keys and machine; change nothing", epilog=_EPILOG
    )
    check.set_defaults(subcommand=_check)

    show = subcommands.add_parser("show", parents=[shared], help="ask a running home agent", epilog=_EPILOG)
    show.add_argument("subject", choices=("bindings", "counters", "status"))
    show.add_argument("--json", action="store_true", help="for programs: one JSON document")
    show.set_defaults(subcommand=_show)

    demo = subcommands.add_parser("demo", help="watch a mobile node leave home, move and return", epilog=_EPILOG)
    demo.add_argument("--hold", action="store_true", help="leave the network up at the end, to look into")
    demo.add_argument("--json-output", metavar="FILE", type=Path, help="write what came of it there")
    demo.set_defaults(subcommand=_demo)

    mobile_node = subcommands.add_parser(
        "mobile-node", parents=[shared], help="be a mobile node, for labs and tests", epilog=_EPILOG
    )
    mobile_node.add_argument("-v", "--verbose", action="store_true", help="log more")
    mobile_node.add_argument("--json", action="store_true", help="for programs: one JSON document for each event")
    mobile_node.set_defaults(subcommand=_mobile_node)

    detach = subcommands.add_parser(
        "detach", parents=[shared], help="end forwarding: take the data path off every interface", epilog=_EPILOG
    )
    detach.set_defaults(subcommand=_detach)
    return parser


def _complain(sentence: str) -> None:
    print(f"ha-fastpath: {sentence}", file=sys.stderr)


def _configuration(options: argparse.Namespace) -> config.Configuration:
    return config.load(options.configuration or config.DEFAULT_PATH)


def _run(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    from ha_fastpath import daemon

    try:
        return daemon.run(configuration, verbose=options.verbose)
    except daemon.StartError as error:
        _complain(str(error))
        return MISUSED


def _check(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    from control.ipsec.association import Role
    from ha_fastpath import keys

    associations = keys.load(
        configuration.keys_file,
        Role.HOME_AGENT,
        configuration.spi_range,
        [link.address for link in configuration.home_links],
    )
    from ha_fastpath import daemon

    problems = daemon.check_machine(configuration)
    for problem in problems:
        _complain(problem)
    if problems:
        return NO
    links = len(configuration.home_links)
    print(
        f"{configuration.path}: good: {links} home {'link' if links == 1 else 'links'},"
        f" {len(associations)} security associations, {len(configuration.interfaces)} interfaces"
    )
    return GOOD


def _show(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    from ha_fastpath.management import ManagementError, ask

    async def gather() -> list[dict[str, object]]:
        return [answer async for answer in ask(configuration.management_socket, options.subject)]

    try:
        answers = asyncio.run(gather())
    except ManagementError as error:
        _complain(str(error))
        return NO
    if options.json:
        print(json.dumps(answers if options.subject == "bindings" else answers[0], indent=2))
    else:
        tables.show(options.subject, answers)
    return GOOD


def _demo(options: argparse.Namespace) -> int:
    from ha_fastpath.lab import demo

    return demo.run(hold=options.hold, json_output=options.json_output)


def _mobile_node(options: argparse.Namespace) -> int:
    settings = config.load_mobile_node(options.configuration or config.DEFAULT_MOBILE_NODE_PATH)
    from ha_fastpath import mobile_node

    return mobile_node.run(settings, verbose=options.verbose, json_events=options.json)


def _detach(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    from ha_fastpath import daemon

    try:
        left = daemon.detach(configuration)
    except daemon.StartError as error:
        _complain(str(error))
        return NO
    print(left)
    return GOOD
