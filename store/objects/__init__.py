"""The object store: files under keys.

| module | about |
|---|---|
| `interface` | the calls that every object store has, and the form of keys |
| `calls` | how long calls take |
| `concurrent_calls` | calls for one request of a client, several at a time |
| `direct` | the calls with which clients upload and download files themselves |
| `deletions` | many deletions, of which some fail |
| `quotas` | how much users may upload |
| `avatar_modes` | what avatars may be |
| `folder` | an object store in a folder of this machine |
| `folder_files`, `folder_multiparts` | its files while they are read or written; its multipart uploads |
| `tree`, `signed_urls` | files below a folder, past no symbolic link; signed URLs of them, which `web` serves |
| `s3` | an S3-compatible service: its objects |
| `s3_transfers` | direct transfers with such a service |
| `s3_copied_parts` | the same with a service that takes no SHA-256 of parts: parts are objects, which it copies |
| `s3_requests`, `s3_replies` | requests to it; the bodies of its answers |
| `bucket`, `sigv4`, `service_clock` | its address; AWS Signature Version 4, which requests carry; its clock |
| `url` | the forms of OBJECT_STORE_URL; opens the store that it names |
| `archive` | messages that retention removes, written as objects and read back |
"""
