"""Flags of the commands: one file each, imported only when its command is asked for.

Lives here: what `baton NAME` takes, as a function of the same name, and the hand-over to the file that does it.
May not: do a command's work; import another command.
Who may call: `services/local/shelf`, by name.
"""
