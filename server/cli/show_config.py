"""`ops config`: the configuration as a process would read it now, also if it is not valid."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.commands import Sections
from runtime.config import Config, ConfigError
from runtime.config_sources import misspelled, settings_of


def config_sections(environment: Mapping[str, str]) -> tuple[Sections, int]:
    """The tables, and the exit status: 0, or 1 if a process would not start.

    Without a valid configuration `variables` is empty, and `faults` names the variable.
    """
    faults = [{"level": "warning", "fault": str(each)} for each in misspelled(environment)]
    try:
        config = Config.from_environment(environment)
    except ConfigError as error:
        return {"variables": [], "faults": [{"level": "error", "fault": str(error)}, *faults]}, 1
    variables = [
        {"variable": each.name, "value": each.value, "source": each.source} for each in settings_of(config, environment)
    ]
    return {"variables": variables, "faults": faults}, 0
