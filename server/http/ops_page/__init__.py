"""The operations page: files that a browser loads from `web`, and from nowhere else. `server.http.routes.ops_page`
serves them. The page has no data of its own: it asks `GET /v1/ops/live` with the operators' token.

| file | about |
|---|---|
| `page.html` | headings, tables, the form for the token; no script and no style within |
| `page.css` | light and dark, as the operator's system is set |
| `page.js` | asks every 2 s, and fills in what the answers say |
| `charts.js` | the small charts, as SVG, each with a sentence for screen readers |
| `icon.svg` | the icon of the tab |
"""
