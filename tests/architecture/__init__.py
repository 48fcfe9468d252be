"""The house rules as tests: who imports whom, which door each library has, what nobody may call."""
