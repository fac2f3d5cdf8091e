"""`drun cache` lists or clears what is kept between runs."""

from __future__ import annotations

import time

from drun import cache as caches
from drun.console import answer, say


def cache(clear: bool) -> None:
    if clear:
        num_bytes = caches.clear()
        say(f"{num_bytes / 1e6:,.1f} MB freed in {caches.root()}")
        answer({"folder": caches.root(), "freed_bytes": num_bytes})
        return
    entries = caches.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
        say(f"{entry.num_bytes / 1e6:10,.1f} MB  used {used}  {entry.what}")
    total = sum(entry.num_bytes for entry in entries)
    say(
        f"{total / 1e6:10,.1f} MB in {caches.root()}; above {caches.MAX_BYTES / 1e6:,.0f} MB the entries not used for "
        f"longest are removed; {caches.VARIABLE} names another folder, --clear removes all"
    )
    answer({"folder": caches.root(), "max_bytes": caches.MAX_BYTES, "num_bytes": total, "entries": entries})
