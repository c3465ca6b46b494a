"""Runs one command of operators, and prints its rows."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import trio

from runtime.commands import CommandError, Rows, Sections, as_json, as_one_object, as_table, as_tables
from runtime.config import Config
from runtime.process import run_process
from server.cli.parser import parser
from server.cli.services import Ask, CommandAnswer, OperatorServices
from server.cli.show_config import config_sections
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis


def run_command(arguments: Sequence[str]) -> None:
    """Run a command to its end.

    :param arguments: behind the word `ops`.
    :raises SystemExit: with the status of the command; 1, and a sentence on stderr, if it could not be done; 2 if the
        arguments are not understood.
    """
    options = parser().parse_args(arguments)
    if options.ask is None:
        shown, status = config_sections(os.environ)
        answer = CommandAnswer(shown, status)
    else:
        answer = _answer(options.ask, options)
    sys.stdout.write(f"{_text(answer.shown, is_json=options.json)}\n")
    sys.stdout.flush()
    sys.exit(answer.status)


def _answer(ask: Ask, options: argparse.Namespace) -> CommandAnswer:
    answers: list[CommandAnswer] = []

    async def run(config: Config) -> None:
        pool, redis = Pool(config.database_url, 2), Redis(config.bus_url)
        async with trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            try:
                answers.append(await ask(OperatorServices(config, pool, redis), options))
            finally:
                pool.close()
            nursery.cancel_scope.cancel()

    run_process("ops", run, CommandError, StoreError, level="error")
    return answers[0]


def _text(shown: Rows | Sections, *, is_json: bool) -> str:
    if isinstance(shown, dict):
        return as_one_object(shown) if is_json else as_tables(shown)
    return as_json(shown) if is_json else as_table(shown)
