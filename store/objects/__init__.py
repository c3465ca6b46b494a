"""The object store: files under keys.

| module | about |
|---|---|
| `interface` | the calls that every object store has, and the form of keys |
| `direct` | the calls with which clients upload and download files themselves |
| `folder` | an object store in a folder of this machine |
| `s3`, `sigv4` | an S3-compatible service; AWS Signature Version 4, which its requests carry |
| `url` | the forms of OBJECT_STORE_URL; opens the store that it names |
| `archive` | messages that retention removes, written as objects and read back |
"""
