"""The ways to tell a user that something waits, behind one interface.

| module | about |
|---|---|
| `notifier` | the interface: what is told, and how it fails |
| `webhook`, `email`, `web_push`, `apns`, `fcm` | one way each |
| `calls` | calls over HTTP that end in time |
| `guard` | URLs that users gave lead out of here |
| `configured` | those that the configuration has keys for |
"""
