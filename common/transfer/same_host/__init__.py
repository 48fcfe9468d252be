"""The data plane between two processes of one host: a ring of memory that both map, and a socket that tells of it.

Lives here: the ring and who may write which slot, the line of fixed-size words beside it, both ends, their meeting.
May not: name memory in the file system, or trust a length that the other end writes. The ring is anonymous, sealed in
its size, and handed over as a descriptor: whoever is killed, and whenever, nothing is left.
Who may call: the menu of channels, through `factory`.
"""
