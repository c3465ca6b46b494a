"""E-mail, from a template to the mail server.

| module | about |
|---|---|
| `mailer` | sends one mail: template, message, mail server |
| `wording` | subject, text and HTML from a template |
| `templates` | the templates |
| `letter` | the message with its headers |
| `smtp` | a conversation with the mail server, in a thread |
"""
