"""What tests share: no test stands here.

``tests`` is on pytest's path, so that every test says ``from support.party import Pair``. Where a helper is used by the
tests of one layer only, it stands here all the same: who looks for one has one place to look through.

The test of a refusal has two halves, and neither repeats the other. The rule itself, at its function, with every value
at both sides of its limit and every field bent, is tested in its layer, without a wallet where the rule knows
none. What the other party, a stranger, a file, a server, a disk or an environment does wrong is played against whole
wallets or commands in ``tests/hostile``: one numbered case for each line of ``support.hostile.LINES``, which sees the
slug, the exit code and that nothing has changed.

All layers:
    warm            commands that are forked from a process in which everything is loaded
    judge           Bitcoin Core's script engine judges every transaction that a test completes
    party           two real wallets on one private chain: a channel, step by step, in this process
    shop            a channel with its first payment, and the cash register of its payee
    protocol        both parties' keys, terms and states without wallets, and messages bent at will
    spilman         a construction of the channel that stands in the tests alone
    leaves          spends of a taproot channel by either leaf, bent at will
    transcript      the installed ``mpchan`` in a folder of its own, with all that can be seen of it
    documented      holds a command's JSON to its documented keys
    slugs           every slug that the code can raise, with its exit code, from the source
    strategies      Hypothesis strategies and vector files of Bitcoin's formats
    psbts           PSBTs with fields that the package reads and never writes
    signer          any of the libraries that sign, in the place of the one that would be chosen
    watch           rounds of the watcher, and what they saw
    encrypted       wallets whose keys are encrypted at a cost that tests can pay, and a terminal
    many_channels   wallets with as many open channels as one wants, funded on one embedded chain
    old_wallets     copies of the wallets that an older mpchan made, on the chain that they know
    wheels          which packages have no wheel, by Python and platform; a program too

Other people's money and software:
    foreign_wallet  another wallet: it owns coins, makes transactions and PSBTs, signs what it is told to
    external        fundings that another wallet makes
    other_libraries a refund completed from seed words alone by embit and BDK
    pins            children that hold up a close

What is hostile:
    hostile         the numbered list of hostile inputs, and what holds of every refusal
    fuzz            targets, mutations, seeds and worst inputs of the fuzz tests (``tests/fuzz/run.py``)

``chain``, backends and their tests:
    node            real Bitcoin Core nodes
    electrum_server ElectrumX in front of such a node, over TCP and TLS (``certificates``)
    grounds         private chains on which two parties meet, each behind the backend that it chose
    story           a channel's life as command lines that may be run again
    embedded        play transactions, and the engine's own account of an embedded chain
    both            the embedded chain and a real node, which must say the same of a transaction
    bitcoind        play transactions, and a record of what a node is asked
    faulty          an HTTP server between the backend and a node, that does harm
    lying           the same for an Electrum server: it alters answers
    mine_blocks     mines a block; a program, for the sample scripts
    watch_load      many open channels on one funding transaction

``crash``, commands that are broken off:
    campaign        a story told command by command, broken off at each step of each command
    forkserver      forks a process for each command, and ends it at the step that is named
    lasting         what of a story's folder the next command can find, as a digest
    stories         the stories
    system_calls    the same below Python: ``strace`` fails or ends the system's calls

``market`` and ``transport``, sales:
    market          a seller and a buyer in one process, on one private chain
    breaking        such a sale, broken off at one step
    processes       sellers and buyers as real processes, on both ways
    later           ``mpchan`` some hours later; a program
    cheats          what holds whenever one side cheats, and the ways to cheat
    strangers       strangers in numbers, who ask and are gone
    ways            both ways between a buyer and a seller, and a seller who answers what it is told to
    tcp             both ends of a connection without mpchan's code but its TLS

``web``, services that are paid by the request:
    asking          a program that asks once, and is killed before a step of its own
    buying          programs that ask a server with one payer's wallet, and what comes between them
    house           a service behind the middleware, in this process, and who asks it
    raw             a payer on the wire: credentials made with the payer's commands, one by one
    served          a server with a certificate of its own, in a thread of its own
    vectors         makes the vectors of the wire that the package brings; a program
"""
