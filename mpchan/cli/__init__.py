"""The command line: click commands that load, call one function of a party, and render.

main      the program: lazy commands, errors to exit codes
app       what every command has at hand: wallet, chain, how to answer
files     reading messages and writing results
render    tables for people
wallet, payer, payee, regtest, demo    the commands
"""
