"""`ops config`, as a process."""

from __future__ import annotations

from tests.server.cli.shell_world import Shell


async def test_the_configuration_is_shown_with_sources_and_without_secrets() -> None:
    shell = Shell(DATABASE_URL="postgresql://alo:hunter2@h/chat", REDIS_HOST="redis.internal", OPS_TOKN="x")
    typed = await shell.asks("config")
    assert "hunter2" not in typed.out
    variables = {each["variable"]: (each["value"], each["source"]) for each in typed.sections["variables"]}
    assert variables["DATABASE_URL"] == ("postgresql://...@h/chat", "environment")
    assert variables["REDIS_URL"] == ("redis://redis.internal:6379/0", "environment: REDIS_HOST")
    assert variables["PORT"] == ("8000", "default")
    assert typed.sections["faults"] == [{"level": "warning", "fault": "OPS_TOKN is not read: do you mean OPS_TOKEN?"}]


async def test_a_configuration_that_is_not_valid_is_an_error_of_the_table() -> None:
    shell = Shell(PORT="70000", DATABSE_URL="x")
    typed = await shell.types("config", "--json")
    assert (typed.status, typed.sections["variables"]) == (1, [])
    assert [each["level"] for each in typed.sections["faults"]] == ["error", "warning"]
    assert typed.sections["faults"][0]["fault"] == "PORT must be 0 to 65535"


async def test_tables_are_for_people() -> None:
    typed = await Shell(PORT="9000").types("config")
    assert typed.status == 0
    lines = typed.out.splitlines()
    assert lines[0] == "variables"
    assert lines[2].split() == ["variable", "value", "source"]
    assert ["PORT", "9000", "environment"] in [line.split() for line in lines]
    assert lines[-3:] == ["faults", "", "(none)"]


async def test_a_command_that_does_not_exist_is_refused_with_those_that_do() -> None:
    typed = await Shell().types("confg")
    assert typed.status == 2
    assert "config" in typed.err
