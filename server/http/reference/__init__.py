"""The reference of the HTTP interface, made from the declarations of the routes: `/openapi.json` and `/docs`.

| module | about |
|---|---|
| `schemas` | JSON Schemas of bodies and answers |
| `examples` | an example of each route: its values, its body and its answer |
| `curl` | an example as a command |
| `operations` | a route as an operation of OpenAPI |
| `document` | the OpenAPI document |
| `page` | the docs page, made of the document |
"""
