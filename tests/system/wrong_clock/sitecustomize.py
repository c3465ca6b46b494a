"""A wall clock that is wrong by `TEST_CLOCK_AHEAD_S` seconds, for a process that has this folder on its PYTHONPATH.

A fake, since the thing itself cannot be had: Linux has one wall clock for all processes of a machine, and who may set
it sets it for everybody. Python imports this file by itself before anything else, so whoever asks for the time of day
gets a wrong one. Clocks that only measure how much time has passed are right, as they are where the time of day is not.
"""

import datetime
import os
import time
from typing import Any

_ahead_s = float(os.environ["TEST_CLOCK_AHEAD_S"])
_time, _time_ns, _clock_gettime, _clock_gettime_ns = time.time, time.time_ns, time.clock_gettime, time.clock_gettime_ns
_gmtime, _localtime = time.gmtime, time.localtime
_datetime, _date = datetime.datetime, datetime.date


def _shift_ns(clock: int) -> int:
    return int(_ahead_s * 1e9) if clock == time.CLOCK_REALTIME else 0


class _IsReal(type):
    """The drivers' C code makes real dates; these pass for ours."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.__mro__[1])


class _WrongDatetime(_datetime, metaclass=_IsReal):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)


class _WrongDate(_date, metaclass=_IsReal):
    @classmethod
    def today(cls) -> Any:
        return _date.fromtimestamp(time.time())


time.time = lambda: _time() + _ahead_s
time.time_ns = lambda: _time_ns() + int(_ahead_s * 1e9)
time.clock_gettime = lambda clock: _clock_gettime(clock) + _shift_ns(clock) / 1e9
time.clock_gettime_ns = lambda clock: _clock_gettime_ns(clock) + _shift_ns(clock)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(time.time() if seconds is None else seconds)
datetime.datetime = _WrongDatetime  # type: ignore[misc]
datetime.date = _WrongDate  # type: ignore[misc]
