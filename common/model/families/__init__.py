"""The families: for every architecture a function that turns its config.json into a ModelSpec.

Lives here: one file per maker, what they share (shape), and the list of them all with the fields that must not be
overlooked (registry). May not: hold a tensor or an arithmetic rule; those follow from the spec's fields.
Who may call: common/model. Where an absent field takes a default it is the one of the library the config is made for.
"""
