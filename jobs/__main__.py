"""`python -m jobs`: run a worker, or a command of operators."""

from __future__ import annotations

import sys

from runtime.early_signals import exit_when_told

if __name__ == "__main__":
    # A command that is stopped may not have done its work: status 1. A worker is meant to be stopped: status 0.
    exit_when_told(0 if len(sys.argv) == 1 else 1)

import argparse
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import structlog
import trio

from jobs.cli.commands import Commands
from jobs.engine.streams import PRIORITIES
from jobs.engine.worker import Worker
from jobs.tasks.registry import open_work
from runtime.commands import CommandError, Rows, as_json, as_table
from runtime.config import Config
from runtime.operations import operate
from runtime.process import run_process
from runtime.tracing.switch import open_tracer
from store.errors import StoreError
from store.postgres.pool import Pool
from store.redis.buses import JOBS
from store.redis.client import Redis

Ask: TypeAlias = Callable[[Commands, argparse.Namespace], Awaitable[Rows]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m jobs",
        description="Without a command, run a worker. Commands show and change jobs, schedules and pauses.",
    )
    commands = made.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, help: str, ask: Ask) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.add_argument("--json", action="store_true", help="print one JSON object per line, for programs")
        command.set_defaults(ask=ask)
        return command

    add(
        "status",
        "show for each task how many jobs wait, are delayed, run or are dead, and whether it is paused",
        lambda to, _: to.status(),
    )
    schedule = add("schedule", "show when each schedule fires next; or pause, resume or remove a schedule", _schedule)
    schedule.add_argument("change", nargs="?", choices=["pause", "resume", "remove"])
    schedule.add_argument("name", nargs="?", help="the schedule to change")
    dead = add(
        "dead",
        "show jobs that failed for good, the latest first; for a single job, also its arguments and traceback",
        _dead,
    )
    dead.add_argument("which", nargs="?", help="a task or the number of a job; without it, all dead jobs")
    dead.add_argument("--limit", type=int, default=50, help="how many jobs to show (%(default)s)")
    replay = add("replay", "run dead jobs again", lambda to, options: to.replay(options.which))
    discard = add("discard", "delete dead jobs", lambda to, options: to.discard(options.which))
    for each in (replay, discard):
        some = each.add_mutually_exclusive_group(required=True)
        some.add_argument("which", nargs="?", help="a task or the number of a job")
        some.add_argument("--all", action="store_true", help="the dead jobs of all tasks")
    add(
        "pause", "let the jobs of a task wait; running jobs go on", lambda to, options: to.pause(options.task)
    ).add_argument("task")
    add("resume", "let the jobs of a paused task run again", lambda to, options: to.resume(options.task)).add_argument(
        "task"
    )
    enqueue = add("enqueue", "enqueue a job of a task", _enqueue)
    enqueue.add_argument("task")
    enqueue.add_argument("arguments", nargs="?", default="{}", help="a JSON object; without it, {}")
    enqueue.add_argument("--key", default="", help="at most one job of the task waits under a key")
    enqueue.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="before the job may run")
    enqueue.add_argument("--priority", choices=PRIORITIES, default="normal")
    add("cancel", "keep a job from running, or stop it", lambda to, options: to.cancel(options.job)).add_argument("job")
    show = add("show", "show the state, progress and result of a job", lambda to, options: to.show(options.job))
    show.add_argument("job")
    return made


def _schedule(commands: Commands, options: argparse.Namespace) -> Awaitable[Rows]:
    if not options.change:
        return commands.schedule()
    if not options.name:
        raise CommandError(
            f"schedule {options.change} needs the name of a schedule (python -m jobs schedule lists them)"
        )
    return commands.set_schedule(options.name, options.change)


def _dead(commands: Commands, options: argparse.Namespace) -> Awaitable[Rows]:
    return commands.dead(options.which, options.limit)


def _enqueue(commands: Commands, options: argparse.Namespace) -> Awaitable[Rows]:
    return commands.enqueue(
        options.task, options.arguments, key=options.key, delay_s=options.delay, priority=options.priority
    )


async def _work(config: Config) -> None:
    id = os.urandom(8).hex()
    structlog.contextvars.bind_contextvars(worker=id)
    with open_tracer(config, "worker", id) as tracer:
        # The tasks' connection to it is opened and closed with the tasks.
        worker, bus = Worker(config, partial(open_work, tracer=tracer), id), Redis(config.bus_url)
        async with trio.open_nursery() as nursery:
            await nursery.start(bus.run)
            start = partial(operate, id=id, bus=bus)
            await nursery.start(start, config, "worker", worker.health, worker.samples)
            await worker.run()
            nursery.cancel_scope.cancel()


def _operator(options: argparse.Namespace) -> Callable[[Config], Awaitable[None]]:
    async def run(config: Config) -> None:
        pool, redis = Pool(config.database_url, 2), Redis(config.jobs_url, JOBS)
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
