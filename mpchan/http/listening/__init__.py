"""Where requests come in: HTTP/1.1 by uvicorn, with bounds for strangers.

door      which connections there are, and who has to leave for a newcomer
protocol  one connection: how long it may take for what
server    sockets, TLS, and the thread that serves them
"""
