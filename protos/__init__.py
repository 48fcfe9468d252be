"""Every word that crosses a process border.

Lives here: `baton/v1/*.proto` written by hand, the Python stubs generated from them (committed, never edited), the
generator, and the baseline that breaking changes are measured against.
May not: import anything of this repository.
Who may call: `common/rpc/convert`, servicers and `common/directory`; everyone else speaks `common/core`.
"""
