"""Notifiers: tell a user that messages wait, each by one kind of service, behind one interface.

| module | about |
|---|---|
| `notifier` | the interface: the notice, and the errors |
| `webhook` | a POST to a URL |
| `email` | an e-mail |
| `web_push` | Web Push, to browsers |
| `apns` | Apple's push service |
| `fcm` | Firebase Cloud Messaging |
| `calls` | an HTTP call with a deadline and a bounded answer |
| `http2` | HTTP/2 with one call at a time on each connection |
| `guard` | keeps calls to users' URLs out of private networks |
| `configured` | the notifiers for which the configuration has keys |
"""
