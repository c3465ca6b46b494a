"""The ways to tell a user that something waits, behind one interface.

| module | about |
|---|---|
| `notifier` | the interface: what is told, and how it fails |
| `webhook`, `email`, `web_push`, `apns`, `fcm` | one way each |
| `calls` | calls over HTTP that end in time |
| `http2` | one call at a time on each connection |
| `guard` | URLs that users gave lead out of here |
| `configured` | those that the configuration has keys for |
"""
