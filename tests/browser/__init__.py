"""The operations page and `client/js` in a real browser: `make browser`.

| file | about |
|---|---|
| `driver.js` | drives a tab of headless Chromium, with puppeteer-core and axe-core |
| `tab.py` | that tab, for a test |
| `browser_world.py` | real processes, and a tab that shows their page |
| `pages.py`, `client_pages/` | pages that use the client, and their server |
| `make_pictures.py` | writes the pictures in docs/images/ |
"""
