"""The JavaScript client's own tests, against a server that is started for them: `python -m tests.js`, or `make js`."""
