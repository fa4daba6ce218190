"""The watcher: what has to be sent now, what it pays for it, and bumps by hand; ``beside``, one beside a server."""
