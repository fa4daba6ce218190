"""What the commands answer: one frozen class for each, from which the JSON, its documentation and all words are made.

The fields of a class are the keys of its JSON, in this order. A field without a default is always there; one with a
default is left out where it has that default. What a key means stands under ``Attributes`` in the class's docstring, or
in ``documented.EVERYWHERE`` where it means the same in every answer. Nothing of that is read before somebody asks for
it: the modules are split so that a command loads its own answers and no others.

``documented`` knows which command answers with what, and makes the tables of keys in ``--help`` and in the guide.
"""
