"""The HTTP interface (process `web`); `docs/http.md` describes it for clients.

A request goes from Quart (`app`), or from the thin path of hot reads (`hot_path`), through the exchange (`exchange`)
and the frame (`frame`), which authenticates it, decodes its body, shields a write and makes its announcements, to a
handler (`routes`), which calls the store. A new route: `docs/adding.md`.

| module | about |
|---|---|
| `process` | the process `web`: Hypercorn, from start to drain |
| `hypercorn_seam` | connections: Hypercorn's, with its faults mended |
| `open_connections` | how many connections are open, in all and of each address; which give way to others |
| `request_heads` | heads of requests that h11 takes: made ready for the application, or refused |
| `files` | files of a folder that is the object store: uploads and downloads by signed URLs, past Quart |
| `http_counts`, `samples`, `request_log` | counts of requests; the metrics of the process; a line for each request |
| `hot_path` | the thin path: plain GETs of hot routes, past Quart |
| `app` | the routes as a Quart application; the one file that meets Quart |
| `exchange` | from a request to its reply: errors, encodings and headers of all answers |
| `large_bodies` | bodies that are larger than those of other routes, past Quart |
| `frame` | the frame around each handler |
| `authentication` | the token of a device, the token of operators |
| `routing` | the declaration of a route; the request and the answers of handlers |
| `routes` | the handlers, one file for each resource, and the list of open routes |
| `sources` | the source of a request, for security events |
| `services` | the connections, caches and settings that all handlers share |
| `queries`, `bodies`, `attachment_bodies`, `key_bodies` | queries and bodies of requests, as structs with bounds |
| `answers` | bodies of answers as structs, made of rows of the store |
| `notifiers`, `offered` | bodies of notifiers; the kinds of notifiers that this deployment offers |
| `decoding`, `parsing` | bodies of requests: their structs, and the rules that JSON and CBOR have in common |
| `texts` | texts of bodies that have a rule |
| `encoding`, `cursors` | bodies of answers in JSON and CBOR; cursors of pages as text |
| `compression` | br, gzip and zstd: the coding of an answer, and the compressed forms of a body |
| `media_types`, `request_headers` | the types of bodies that a client accepts and sends; headers of a request |
| `weights` | the weights in a request's headers: `q=0.5` |
| `conditional` | entity tags of pages, and `304` for a client that holds the current page |
| `answer_headers`, `challenges`, `origins` | headers of all answers; of answers 401; of cross-origin requests (CORS) |
| `request_ids` | the id of a request, and that of its trace |
| `problems`, `problem_codes` | errors as problem documents (RFC 9457); the table of their codes |
| `announcements` | pushes for changes that were made over HTTP |
| `hot_reads` | admissions that read a hot route's answer in the same round trip as the token |
| `kept_pages`, `owners` | encoded pages that can be mended; a guess at whose page a token asks for |
| `first_pages`, `versioned_cache` | the cache of first pages; a cache that compares versions on each use |
| `limits`, `request_classes` | limits on requests, by address and by user; the table of the limits |
| `bcrypt_hashes` | bcrypt, of imported users who have not logged in yet |
| `guesses` | guesses of passwords: accounts rest after wrong ones |
| `turns`, `request_turns` | turns at work that few may do at a time; the requests of a process in turn |
| `passwords`, `wasted` | Argon2id in threads, in turn by address; hashes to no good end, for the order of these turns |
| `password_checks` | a password that a request shows: the guess, the check, and the security event of a wrong one |
| `external_issuer`, `external_logins` | the check of JWTs of an external issuer; logging in and confirming by them |
| `issuer_keys`, `key_set` | keys of that issuer, kept; fetching them, and which of them count |
| `password_rules` | the passwords that the server takes |
| `live_figures`, `ops_page` | the figures of all processes, summed up; the page that shows them to operators |
| `web_client` | the files of the web client: a closed list, with the policy for browsers |
| `mail_pages` | the HTML pages that links in mails lead to |
| `links` | the header `Link` of pages |
| `reference` | `/openapi.json` and `/docs`, made from the declarations of the routes |
"""
