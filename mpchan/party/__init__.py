"""What a party does, step by step: load, ask the chain, call the protocol, save, and only then answer.

Each function here is one command. It returns a ``Result`` of ``mpchan.results``, whose fields are the command's JSON
keys; ``hex`` is the message or transaction that leaves. When a function returns, the state behind it is on disk.

    payer, payee     the commands of each side
    opening          how a channel begins: ``brought``, where its first payment tells of it
    register         requests that are paid one by one out of a channel
    spending         what a payer's programs may pay without asking
    meter            many payments in a row, and the classes for programs; ``api``, the rest of a wallet for programs
    check            ``verify``, ``inspect``, ``fsck``: the rules, asked without acting
    watch            acts on what ``mpchan.channel.watch`` decides
    offers           makes offers
    views, briefs, history   what a wallet tells; ``briefs`` in short, for many channels
    coins, holdings, fees    the wallet's own coins, and what a transaction costs
    sending, syncing, backup, common   steps that several of them share
"""
