"""One page about a ledger that anybody can open: a single HTML file that needs no network, no script and no server.

`gather_facts` asks the ledger, `render` writes the answers down. Promise: the page fetches nothing and runs nothing (it
says so to the browser, which enforces it); whatever a ledger holds, names and error texts stay text; of a unit no more
is shown than its band allows; and however large the ledger is, the page stays below `PAGE_BYTES_MAX`.
"""

from memoryos_uow.report.gather import gather_facts
from memoryos_uow.report.page import PAGE_BYTES_MAX, render

__all__ = ["PAGE_BYTES_MAX", "gather_facts", "render"]
