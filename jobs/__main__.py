"""`python -m jobs`: run a worker, or a command of operators."""

from __future__ import annotations

import sys

from runtime.early_signals import exit_when_told

if __name__ == "__main__":
    # A command that is stopped may not have done its work: status 1. A worker is meant to be stopped: status 0.
    exit_when_told(0 if len(sys.argv) == 1 else 1)

import argparse
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from jobs.cli.commands import CommandError, Commands, Rows
from jobs.cli.tables import as_json, as_table
from jobs.engine.streams import PRIORITIES
from jobs.engine.worker import Worker
from jobs.tasks.registry import open_work
from runtime.config import Config
from runtime.process import run_process
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.client import Redis

Ask: TypeAlias = Callable[[Commands, argparse.Namespace], Awaitable[Rows]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m jobs", description="Run a worker; with a command, see to its jobs.")
    commands = made.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, help: str, ask: Ask) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.add_argument("--json", action="store_true", help="an object per line, for programs")
        command.set_defaults(ask=ask)
        return command

    add("status", "each task: how many jobs wait, are delayed, run, are dead; pauses", lambda to, _: to.status())
    schedule = add("schedule", "when each schedule fires; pause, resume or remove one", _schedule)
    schedule.add_argument("what", nargs="?", choices=["pause", "resume", "remove"])
    schedule.add_argument("name", nargs="?")
    dead = add("dead", "dead jobs, the last ones first; of a single one all that is known", _dead)
    dead.add_argument("which", nargs="?", help="a task, or the number of a job; all if left out")
    dead.add_argument("--limit", type=int, default=50)
    replay = add("replay", "dead jobs get another try", lambda to, said: to.replay(said.which))
    discard = add("discard", "dead jobs are forgotten", lambda to, said: to.discard(said.which))
    for each in (replay, discard):
        some = each.add_mutually_exclusive_group(required=True)
        some.add_argument("which", nargs="?", help="a task, or the number of a job")
        some.add_argument("--all", action="store_true", help="of all tasks")
    add("pause", "let the jobs of a task wait", lambda to, said: to.pause(said.task)).add_argument("task")
    add("resume", "let them run again", lambda to, said: to.resume(said.task)).add_argument("task")
    enqueue = add("enqueue", "enqueue a job", _enqueue)
    enqueue.add_argument("task")
    enqueue.add_argument("arguments", nargs="?", default="{}", help="a JSON object")
    enqueue.add_argument("--key", default="", help="one job at a time waits under it")
    enqueue.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    enqueue.add_argument("--priority", choices=PRIORITIES, default="normal")
    add("cancel", "a job is not wanted any more", lambda to, said: to.cancel(said.job)).add_argument("job")
    show = add("show", "where a job is, how far, with what result", lambda to, said: to.show(said.job))
    show.add_argument("job")
    return made


def _schedule(commands: Commands, said: argparse.Namespace) -> Awaitable[Rows]:
    if not said.what:
        return commands.schedule()
    if not said.name:
        raise CommandError(f"schedule {said.what}: which one? (python -m jobs schedule)")
    return commands.set_schedule(said.name, said.what)


def _dead(commands: Commands, said: argparse.Namespace) -> Awaitable[Rows]:
    return commands.dead(said.which, said.limit)


def _enqueue(commands: Commands, said: argparse.Namespace) -> Awaitable[Rows]:
    return commands.enqueue(said.task, said.arguments, key=said.key, delay_s=said.delay, priority=said.priority)


async def _work(config: Config) -> None:
    await Worker(config, open_work).run()


def _operator(options: argparse.Namespace) -> Callable[[Config], Awaitable[None]]:
    async def run(config: Config) -> None:
        pool, redis = Pool(config.database_url, 2), Redis(config.jobs_url)
        async with open_work(config, pool) as work, trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            try:
                rows = await options.ask(Commands(pool, redis, work.tasks), options)
            finally:
                pool.close()
            sys.stdout.write((as_json(rows) if options.json else as_table(rows)) + "\n")
            nursery.cancel_scope.cancel()

    return run


def main() -> None:
    options = parser().parse_args()
    if options.command is None:
        run_process("worker", _work)
    else:
        run_process("jobs", _operator(options), CommandError, StoreError, level="error")


if __name__ == "__main__":
    main()
