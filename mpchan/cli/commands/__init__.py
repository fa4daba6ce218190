"""The commands, a module each or a few that belong together: options, one call of a party, what is printed."""
