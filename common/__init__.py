"""What services share: rooms that know no service.

Lives here: the domain's nouns (core), configuration, observation, rpc manners, text, KV pages, the model, the engine,
page transfer, the directory in Redis, and what every worker is.
May not: import from `services`.
Who may call: services, tests, and rooms to the right: core < config < observe < {rpc | text | kv};
kv < {model < engine | transfer | directory} < worker.
"""
