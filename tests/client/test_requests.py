"""The client has a method for each request."""

from __future__ import annotations

import pytest

from client.requests import Requests
from protocol.frames import REQUESTS, Bye, Hello, List, Ping, Reply, Request, name_of
from tests.protocol.strategies import full

BY_OTHER_MEANS = {
    Hello: "`connect` says it",
    Bye: "`ClientConnection.bye` also waits for the end",
    Ping: "a ping of WebSocket does as well",
}
METHODS = {List: "list_conversations"}
"""Methods for requests whose own name is a Python builtin."""


class Asked(Exception):
    """The frame that a method made."""


class RaisingRequests(Requests):
    """Raises each request as `Asked` instead of sending it."""

    async def request(self, frame: Request, *, timeout_s: float = 0) -> Reply:
        raise Asked(frame, timeout_s)


@pytest.mark.parametrize("struct", [struct for struct in REQUESTS if struct not in BY_OTHER_MEANS])
async def test_each_request_has_a_method_that_makes_it(struct: type[Request]) -> None:
    """A new request without a method fails here: write the method in `client/requests.py`."""
    frame = full(struct)
    method = getattr(RaisingRequests(), METHODS.get(struct, name_of(struct)))
    fields = {name: getattr(frame, name) for name in struct.__struct_fields__[1:]}
    with pytest.raises(Asked) as asked:
        await method(**fields, timeout_s=7.5)
    made, timeout_s = asked.value.args
    assert type(made) is struct
    assert {name: getattr(made, name) for name in fields} == fields
    assert timeout_s == 7.5
