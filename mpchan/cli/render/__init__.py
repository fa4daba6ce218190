"""Words and tables for people, made from what a command returns."""
