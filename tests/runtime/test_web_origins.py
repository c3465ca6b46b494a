"""Origins as browsers send them, and texts that no browser would send."""

from __future__ import annotations

from runtime.web_origins import web_origins, web_origins_fault
from tests.rows import each_row


@each_row(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("https://chat.example", {"https://chat.example"}),
        ("https://a.example,https://b.example:8443 , ", {"https://a.example", "https://b.example:8443"}),
        ("http://localhost:3000", {"http://localhost:3000"}),
        ("http://[::1]:5173", {"http://[::1]:5173"}),
        ("https://xn--bcher-kva.example", {"https://xn--bcher-kva.example"}),
        ("capacitor://localhost", {"capacitor://localhost"}),
        ("http://chat.example:443", {"http://chat.example:443"}),
    ],
)
def test_a_list_of_origins(text: str, origins: set[str]) -> None:
    assert web_origins_fault(text) == ""
    assert web_origins(text) == origins
