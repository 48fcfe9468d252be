"""What a model wrote, read as a client wants it: content, thoughts and calls of tools told apart while it comes.

Pure: text in, pieces out. One file per format; `choose` says which format a model writes.
"""
