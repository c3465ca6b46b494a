"""Mail: what it says, what it looks like on the wire, and handing it to a mail server.

| module | about |
|---|---|
| `mailer` | a mail from its template to the server's yes |
| `wording` | templates (`templates/`): subject, text and HTML |
| `letter` | the message with its headers |
| `smtp` | one conversation with the mail server, in a thread |
"""
