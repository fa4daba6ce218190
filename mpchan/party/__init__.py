"""What a party does, step by step: load, ask the chain, call the protocol, save, and only then answer.

Each function here is one command. It returns a dict whose keys are the command's JSON keys; ``hex`` is
the message or transaction that leaves. When a function returns, the state behind it is on disk.
"""
